import { exactValue } from '../kvstore/range.ts';
import type { RawRow } from '../kvstore/target.ts';
import { Table } from '../table/table.ts';
import { Exporter, type ExporterOptions } from './exporter.ts';
import { type MirroredKind, mirroredKinds, objectPrefix } from './layout.ts';
import type { RemoteConsumer } from './remote-consumer.ts';

/**
 * A mirror's copy of one cluster: what the cluster says, byte for byte, as the rows that an Exporter keeps below
 * `cilium/cache` of the local etcd. Every key is made here, of this cluster's own name: whatever a cluster writes, it
 * cannot get under another's. Values are for the readers to judge.
 */
export class Copy {
  readonly exporter: Exporter;
  readonly consumer: RemoteConsumer;
  readonly #rows: Readonly<Record<MirroredKind, Table<RawRow>>>;
  readonly #stop = new AbortController();
  readonly since = performance.now();

  /** `leave`: milliseconds that readers have to leave a kind that the cluster tells of no more. */
  constructor(cluster: string, leave: number, options: Pick<ExporterOptions, 'ttl' | 'onError'>) {
    this.#rows = Object.fromEntries(mirroredKinds.map(kind => [kind, rawTable(kind)])) as Record<
      MirroredKind,
      Table<RawRow>
    >;
    const rows = this.#rows;
    this.exporter = new Exporter({ ...options, cluster, cached: true, rows }, this.#stop.signal);
    this.consumer = {
      kinds: mirroredKinds,
      replacedFor: leave,
      configured: config =>
        this.exporter.configure({ ...config, cached: true, syncedCanaries: true, reported: true }),
      writer: kind => {
        const prefix = objectPrefix(kind, cluster, true);
        return {
          put: (name, entry) => rows[kind].upsert({ key: prefix + name, value: exactValue(entry) }),
          delete: name => rows[kind].delete(prefix + name),
        };
      },
      listed: kind => rows[kind].markSynced(),
    };
  }

  /** Aborts when nothing more is written. */
  get stopped(): AbortSignal {
    return this.#stop.signal;
  }

  /** Writes no more; what was written stays. */
  stop(): void {
    this.#stop.abort();
  }
}

function rawTable(kind: MirroredKind): Table<RawRow> {
  return new Table<RawRow>({
    name: `copy-${kind}`,
    keyOf: row => row.key,
    equal: (a, b) =>
      typeof a.value === 'string' || typeof b.value === 'string'
        ? a.value === b.value
        : Buffer.compare(a.value, b.value) === 0,
  });
}
