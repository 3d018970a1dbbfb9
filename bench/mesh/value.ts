import { MemoryServiceMaps } from '../../src/agent/service-maps.fixture.ts';
import { runServices } from '../../src/agent/services.ts';
import { type EndpointSlice, endpointSliceTable } from '../../src/api/endpoint-slice.ts';
import { type Service, serviceKey, serviceSchema, toService } from '../../src/api/service.ts';
import { LargeService } from '../../src/clustermesh/large-service.ts';
import { objectPrefix } from '../../src/clustermesh/layout.ts';
import { remoteTables } from '../../src/clustermesh/rows.ts';
import { parseService } from '../../src/clustermesh/values.ts';
import { Table } from '../../src/table/table.ts';
import { quantile, type Result } from '../control-plane/report.ts';
import { serviceObject } from '../services/crowd.ts';
import { globalService } from '../synthetic-rows.ts';

const changes = 50;
const cluster = {
  name: 'syn1',
  id: 2,
  nodes: 100,
  endpoints: 0,
  services: 0,
  namespace: 'bench',
  cached: false,
};

/** One changed backend of a remote value, in this process, with maps in memory that count what is written. */
export async function parseAndApply(backends: number): Promise<Result[]> {
  const stop = new AbortController();
  const services = new Table<Service>({ name: 'services', keyOf: serviceKey });
  const slices = new Table<EndpointSlice>(endpointSliceTable);
  const remote = remoteTables();
  const object = serviceObject('huge', '10.96.0.9');
  services.upsert(
    toService(
      serviceSchema.parse({
        ...object,
        metadata: {
          ...object.metadata,
          namespace: cluster.namespace,
          annotations: { 'service.cilium.io/global': 'true' },
        },
      }),
    ),
  );
  const maps = new MemoryServiceMaps();
  const regions = new Table<{ readonly cluster: string; readonly region: string }>({
    name: 'regions',
    keyOf: row => row.cluster,
  });
  const ownRanges = new Table<{ readonly prefix: string }>({ name: 'ranges', keyOf: row => row.prefix });
  for (const table of [services, slices, remote.services, regions, ownRanges]) table.markSynced();
  const { reconciler } = await runServices({
    services,
    slices,
    remotes: remote.services,
    node: 'n',
    cluster: 'hub',
    regions,
    ownRanges,
    mayServe: () => true,
    maps,
    signal: stop.signal,
    onProblem: () => undefined,
    onError: (_, error) => {
      throw error;
    },
  });
  const addresses = Array.from({ length: backends }, (_, n) => `198.18.${n >> 8}.${n & 255}`).sort();
  const large = new LargeService();
  const origin = { cluster: cluster.name, clusterId: cluster.id, maxClusters: 255 } as const;
  const prefix = objectPrefix('services', cluster.name);
  const written = (): number => maps.frontends.writes + maps.slots.writes + maps.backends.writes;
  const times: Record<'json' | 'parse' | 'read' | 'apply', number[]> = {
    json: [],
    parse: [],
    read: [],
    apply: [],
  };
  let [rows, size] = [0, 0];
  const cpu = (since?: NodeJS.CpuUsage): number => {
    const { user, system } = process.threadCpuUsage(since);
    return user + system;
  };
  for (let n = 0; n <= changes; n++) {
    if (n) addresses[(n * 197) % backends] = `198.19.${n >> 8}.${n & 255}`;
    const { key, value } = globalService(cluster, 'huge', '10.96.0.9', addresses);
    size = value.length;
    const before = written();
    const json = cpu();
    JSON.parse(value);
    const parsing = cpu();
    const rest = key.slice(prefix.length);
    parseService(key, rest, value, origin);
    const bytes = Buffer.from(value);
    const reading = cpu();
    const row = large.read(key, rest, { bytes, value }, origin)!;
    const applying = cpu();
    remote.services.upsert(row);
    do await reconciler.whenSettled();
    while (!reconciler.status.quiet);
    const done = cpu();
    if (n === 0) continue; // everything is new
    times.json.push(parsing - json);
    times.parse.push(reading - parsing);
    times.read.push(applying - reading);
    times.apply.push(done - applying);
    rows = Math.max(rows, written() - before);
  }
  stop.abort();
  const what = `services/v1 value of ${backends} backends (${(size / 2 ** 20).toFixed(2)} MiB), one changed`;
  const median = (name: keyof typeof times): string => (quantile(times[name], 0.5) / 1000).toFixed(2);
  return [
    { what: `${what}: JSON.parse alone, ms`, isthmus: median('json'), goal: '', cilium: '' },
    { what: `${what}: all parsed and checked, ms`, isthmus: median('parse'), goal: '', cilium: '' },
    {
      what: `${what}: what differs found, parsed and checked, ms`,
      isthmus: median('read'),
      goal: '',
      cilium: '',
    },
    { what: `${what}: applied, ms`, isthmus: median('apply'), goal: '', cilium: '' },
    { what: `${what}: rows written to maps`, isthmus: String(rows), goal: 'few', cilium: '' },
  ];
}
