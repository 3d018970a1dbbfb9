/** The agent's CNI half over a folder of its own, for tests: everything real but the BPF programs. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { buildCni } from '../../deploy/build.ts';
import { format } from '../datapath/address.ts';
import { Netlink } from '../datapath/netlink.ts';
import type { Datapath } from '../datapath/object.ts';
import { log } from '../log.ts';
import { Table } from '../table/table.ts';
import { type CniServerOptions, serveCni } from './cni-server.ts';
import type { EndpointMapRow } from './endpoint.ts';
import { endpointFiles } from './endpoint-files.ts';
import { type EndpointMap, type HostAddress, reconcileEndpointMap } from './endpoint-map.ts';
import { type EndpointFamily, type EndpointPrograms, Endpoints } from './endpoints.ts';
import { createIpam } from './ipam.ts';

export interface Agent extends AsyncDisposable {
  readonly endpoints: Endpoints;
  readonly netlink: Netlink;
  /** Addresses in the stand-in for the BPF map. */
  readonly map: Map<string, number>;
  /** Pin name → ifindex. */
  readonly pins: Map<string, number>;
}

/** The programs of endpoints as names only; `pins` outlives an agent as bpffs does. */
function recordPrograms(pins: Map<string, number>): EndpointPrograms {
  return {
    attachDevice: (_program, ifindex, _direction, pinName) => void pins.set(pinName, ifindex),
    attachNewDevice: async (_program, ifindex, _direction, pinName) => void pins.set(pinName, ifindex),
    detach: pinName => void pins.delete(pinName),
    pinned: () => [...pins.keys()],
  };
}

export interface AgentOptions extends Partial<CniServerOptions> {
  readonly pins?: Map<string, number>;
  /** The real thing instead of names in `pins` and `map`. */
  readonly datapath?: Datapath;
  /** Addresses of the node, rows of the endpoint map. */
  readonly hostAddresses?: readonly string[];
  readonly cidrs?: readonly string[];
  /** Dual stack, with the gateway fd00:10::1. */
  readonly cidrs6?: readonly string[];
  readonly addGrace?: number;
}

const family = (number: 4 | 6, cidrs: readonly string[], gateway: string): EndpointFamily => ({
  family: number,
  ipam: createIpam({ cidrs, reserved: [gateway], now: () => performance.now() }),
  gateway,
});

export async function startAgent(folder: string, options: AgentOptions = {}): Promise<Agent> {
  const stop = new AbortController();
  const netlink = new Netlink();
  const pins = options.pins ?? new Map<string, number>();
  const realMap = options.datapath?.map<EndpointMapRow['key'], EndpointMapRow['value']>('endpoints');
  const endpoints = new Endpoints({
    netlink,
    mapRows: () => Array.from(realMap?.entries() ?? [], ([key, value]) => ({ key, value })),
    programs: options.datapath ?? recordPrograms(pins),
    families: [
      family(4, options.cidrs ?? ['10.1.0.0/24'], '10.1.0.1'),
      ...(options.cidrs6 ? [family(6, options.cidrs6, 'fd00:10::1')] : []),
    ],
    files: endpointFiles(join(folder, 'endpoints')),
    mtu: 1450,
    log,
    ...(options.addGrace !== undefined && { addGrace: options.addGrace }),
  });
  endpoints.restore();
  const hostAddresses = new Table<HostAddress>({ name: 'host-addresses', keyOf: row => row.address });
  for (const address of options.hostAddresses ?? []) hostAddresses.upsert({ address });
  hostAddresses.markSynced();
  const map = new Map<string, number>();
  const rows: EndpointMap = {
    set: (key, value) => void map.set(format(key.addr), value.identity),
    delete: key => map.delete(format(key.addr)),
    entries: () => [],
  };
  const { programmed } = reconcileEndpointMap({
    endpoints: endpoints.table,
    hostAddresses,
    map: realMap ?? rows,
    log,
    signal: stop.signal,
  });
  const server = await serveCni({
    endpoints,
    log,
    socketPath: join(folder, 'cni.sock'),
    releasesFolder: join(folder, 'cni-release'),
    identify: async () => 70000,
    programmed,
    problem: () => undefined,
    ...options,
  });
  return {
    endpoints,
    netlink,
    map,
    pins,
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      stop.abort();
      netlink[Symbol.dispose]();
    },
  };
}

let built: Promise<string> | undefined;

/** Our executable, built once. */
export function builtPlugin(): Promise<string> {
  built ??= buildCni();
  return built;
}

export interface Call {
  /** Path of the executable; default: ours, built. */
  readonly plugin?: string;
  readonly container?: string;
  readonly netns?: string;
  readonly ifName?: string;
  readonly args?: string;
  readonly config?: Readonly<Record<string, unknown>>;
  readonly env?: Readonly<Record<string, string>>;
}

export interface Answer {
  readonly code: number;
  readonly output: string;
  readonly milliseconds: number;
}

/** Runs the plugin as a runtime does. */
export async function runPlugin(folder: string, command: string, call: Call = {}): Promise<Answer> {
  const plugin = call.plugin ?? (await builtPlugin());
  const started = performance.now();
  const child = spawn(plugin, {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: {
      CNI_COMMAND: command,
      CNI_CONTAINERID: call.container ?? '',
      CNI_NETNS: call.netns ?? '',
      CNI_IFNAME: call.ifName ?? (call.container ? 'eth0' : ''),
      CNI_PATH: '/opt/cni/bin',
      CNI_ARGS: call.args ?? '',
      ISTHMUS_CNI_SOCK: join(folder, 'cni.sock'),
      ISTHMUS_CNI_RELEASES: join(folder, 'cni-release'),
      ...call.env,
    },
  });
  child.stdin.on('error', () => undefined);
  child.stdin.end(
    JSON.stringify({ cniVersion: '1.0.0', name: 'isthmus', type: 'isthmus-cni', ...call.config }),
  );
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  const [code] = (await once(child, 'close')) as [number];
  return { code, output, milliseconds: performance.now() - started };
}
