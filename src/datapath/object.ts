import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Btf, type ElfObject, parseBtf, parseElf } from './btf.ts';
import { FilterPins, filterNames } from './filter-pins.ts';
import { readIterator } from './iterator.ts';
import { codecOf, enumValues, layoutOf, typeNamed } from './layout.ts';
import * as libbpf from './libbpf.ts';
import {
  ATTACH,
  attachCgroup,
  attachDevice,
  attachNewDevice,
  hasTcx,
  listPins,
  pinPath,
  removePin,
} from './link-pins.ts';
import { BpfMap } from './map.ts';
import { type MapSpec, mapSpecs } from './map-spec.ts';
import { nameOfPin, openPin } from './pinned-map.ts';
import { copyRows, type Row } from './stale-map.ts';
import { type TestRun, type TestRunResult, testRun } from './test-run.ts';

export type DeviceProgram = 'from_pod' | 'from_host' | 'from_overlay' | 'from_netdev' | 'to_netdev';
export type CgroupProgram = keyof Omit<typeof ATTACH, 'ingress' | 'egress'>;
export type MapName =
  | 'ipcache'
  | 'endpoints'
  | 'nodes'
  | 'unmasqueraded'
  | 'masquerade_addresses'
  | 'frontends'
  | 'slots'
  | 'backends'
  | 'affinity'
  | 'affinity_members'
  | 'source_ranges'
  | 'service_addresses'
  | 'maglev'
  | 'conntrack'
  | 'nat'
  | 'fragments'
  | 'socket_services'
  | 'socket_peers'
  | 'l2_responders'
  | 'metrics';

export const CGROUP_PROGRAMS = Object.keys(ATTACH).filter(
  (name): name is CgroupProgram => name !== 'ingress' && name !== 'egress',
);

/** CONFIG_* of bpf/types.h. */
export const CONFIG_FLAG = {
  /** Translate sockets of the host's network namespace only. */
  socketHostOnly: 1,
  /** Leave VXLAN to the device, and to its receive offload. */
  unpackByDevice: 2,
  /** Processes of the node can not bind a NodePort. */
  protectNodePorts: 4,
  /** Send to pods of nodes with NODE_DIRECT by routes, and hear pods of any node so. */
  direct: 8,
  /** The map `unmasqueraded` has rows. */
  unmasqueraded: 16,
} as const;

/**
 * `struct config` of bpf/types.h: fixed when the programs are loaded. Addresses as `address.parse` gives them; those
 * of a family the cluster does not have are 16 zeros.
 */
export interface DatapathConfig {
  readonly node_ip: Uint8Array;
  readonly node_ip6: Uint8Array;
  readonly internal_ip: Uint8Array;
  readonly internal_ip6: Uint8Array;
  /** Source a pod sees when it reaches itself by a service; Cilium's are 169.254.42.1 and fe80::1. */
  readonly hairpin_ip: Uint8Array;
  readonly hairpin_ip6: Uint8Array;
  /** SO_NETNS_COOKIE of the node's network namespace (netnsCookie()). */
  readonly host_netns_cookie: bigint;
  readonly host_ifindex: number;
  readonly vxlan_ifindex: number;
  /** CONFIG_FLAG, added up. */
  readonly flags: number;
  /** Entries of the Maglev tables that are written; without it there are none. */
  readonly maglev_size?: number;
  /** The same on all nodes of a cluster, so that they choose alike. */
  readonly maglev_seed?: number;
  readonly cluster_id: number;
  /** Bits of an identity below its cluster's ID (clusterShift()). */
  readonly cluster_shift: 15 | 16;
  /** First and last port for masquerade and NodePorts; outside net.ipv4.ip_local_port_range. */
  readonly nat_port_min: number;
  readonly nat_port_max: number;
  readonly vxlan_port: number;
  readonly host_mac: Uint8Array;
}

export interface LoadOptions {
  readonly objectPath: string;
  /** A folder of a bpffs: `maps`, and `links` or `filters`, are kept below it. */
  readonly bpffs: string;
  readonly config: DatapathConfig;
  /** Rows of a map, where not as in bpf/lib/maps.h. */
  readonly sizes?: Readonly<Partial<Record<MapName, number>>>;
  /** False: filters of traffic control even where the kernel has tcx. Default true. */
  readonly tcx?: boolean;
}

/** How programs are attached to devices: tcx links (Linux 6.6), or filters of traffic control. */
export type AttachMode = 'tcx' | 'tc';

/** Rows taken over from one stale map; `left`: those that the new layout cannot hold. */
export interface FlowsTaken {
  readonly map: MapName;
  readonly copied: number;
  readonly left: number;
}

/** Maps that packets and sockets write. All others are the agent's, which fills them itself. */
const FLOW_MAPS: readonly MapName[] = ['conntrack', 'nat', 'fragments', 'socket_peers', 'affinity'];

/** The loaded programs with their maps and links. Disposing it closes descriptors; what is pinned goes on. */
export interface Datapath extends Disposable {
  map<K, V>(name: MapName): BpfMap<K, V>;
  /** Names of drop and forward reasons by their number, as in bpf/lib/drop.h. */
  readonly reasons: ReadonlyMap<number, string>;
  readonly attachMode: AttachMode;
  /**
   * Attaches, or exchanges the program of what is pinned as `pinName` without an instant in between; what was
   * attached under that name in the other mode goes.
   */
  attachDevice(
    program: DeviceProgram,
    ifindex: number,
    direction: 'ingress' | 'egress',
    pinName: string,
  ): void;
  /**
   * Attaches to a device that has just been made and has no link. Takes many milliseconds, on another thread:
   * a caller with a device per pod does not hold up the process.
   */
  attachNewDevice(
    program: DeviceProgram,
    ifindex: number,
    direction: 'ingress' | 'egress',
    pinName: string,
  ): Promise<void>;
  /** `attachDevice` for one socket program at a cgroup v2 folder; pinned under the program's name. */
  attachCgroup(program: CgroupProgram, cgroupPath: string): void;
  detach(pinName: string): void;
  /** Names of all that is attached. */
  pinned(): string[];
  /** Maps pinned by another version with another layout. Remove them once the new ones are filled and attached. */
  staleMaps(): string[];
  /**
   * Takes over what packets and sockets wrote into stale maps: flows, translations, affinity. Rows that are there
   * already stay. Call it before the new programs run, and once more after, for what came in between.
   */
  takeOverFlows(): Promise<readonly FlowsTaken[]>;
  unpinStaleMaps(): void;
  testRun(program: DeviceProgram, run: TestRun): TestRunResult;
  /** Sockets of all network namespaces that were sent to a pod which is no more. Empty where the kernel has no BTF. */
  vanishedSockets(): VanishedSocket[];
}

/** `struct vanished_socket` of bpf/types.h. */
export interface VanishedSocket {
  readonly local: Uint8Array;
  readonly remote: Uint8Array;
  readonly local_port: number;
  readonly remote_port: number;
  readonly proto: number;
  readonly receive_next: number;
  readonly send_next: number;
  readonly cookie: bigint;
}

/** What the iterator over sockets needs of the kernel: the types it was built with. */
const KERNEL_BTF = '/sys/kernel/btf/vmlinux';

/**
 * Loads the object: maps that are pinned with the same layout are adopted with their rows, others
 * are created and pinned. Throws with libbpf's and the verifier's words in the message.
 */
export function loadDatapath(options: LoadOptions): Datapath {
  const { objectPath, bpffs, config, sizes = {} } = options;
  const file = readFileSync(objectPath);
  const elf = parseElf(file);
  const btf = btfOf(elf, objectPath);
  const specs = mapSpecs(btf, sizes);
  const mapFolder = join(bpffs, 'maps');
  const linkFolder = join(bpffs, 'links');
  mkdirSync(mapFolder, { recursive: true });
  mkdirSync(linkFolder, { recursive: true });

  libbpf.takeLog();
  const object = libbpf.objectOpen(objectPath, null);
  if (object === null) libbpf.check(-libbpf.lastErrno(), `open ${objectPath}`);
  try {
    for (const spec of specs) {
      const map = libbpf.findMap(object, spec.name);
      if (map === null) throw new Error(`${objectPath}: libbpf knows no map ${spec.name}`);
      if (spec.maxEntries)
        libbpf.check(libbpf.mapSetMaxEntries(map, spec.maxEntries), `size of map ${spec.name}`);
      libbpf.check(libbpf.mapSetPinPath(map, join(mapFolder, spec.pin)), `pin path of map ${spec.name}`);
    }
    const iterator = libbpf.findProgram(object, 'vanished_sockets');
    if (iterator !== null && !existsSync(KERNEL_BTF)) libbpf.programSetAutoload(iterator, false);
    const rodata = readOnlyData(elf, btf, { maglev_size: 0, maglev_seed: 0, ...config });
    const map = libbpf.findMap(object, '.rodata');
    if (map === null) throw new Error(`${objectPath}: no .rodata`);
    libbpf.check(libbpf.mapSetInitialValue(map, rodata, rodata.length), 'configuration');
    libbpf.check(libbpf.objectLoad(object), `load ${objectPath}`);
  } catch (error) {
    libbpf.objectClose(object);
    throw error;
  }

  const maps = new Map(specs.map(spec => [spec.name, openMap(object, spec)]));
  const current = new Set(specs.map(spec => spec.pin));
  const program = (name: string): number => {
    const found = libbpf.findProgram(object, name);
    if (found === null) throw new Error(`${objectPath}: no program ${name}`);
    return libbpf.check(libbpf.programFd(found), `program ${name}`);
  };
  const tcx = (options.tcx ?? true) && hasTcx(program('from_host'));
  const filters = new FilterPins(join(bpffs, 'filters'));
  const socket = codecOf<VanishedSocket>(layoutOf(btf, typeNamed(btf, 'struct', 'vanished_socket')));
  return {
    reasons: new Map([...enumValues(btf, 'reason')].map(([name, value]) => [value, name])),
    map<K, V>(name: MapName): BpfMap<K, V> {
      const map = maps.get(name);
      if (!map) throw new Error(`the object has no map ${name}`);
      return map as BpfMap<K, V>;
    },
    attachMode: tcx ? 'tcx' : 'tc',
    // tcx comes before filters and ends the way of a packet: in no order does a packet meet both programs.
    attachDevice(name, ifindex, direction, pinName) {
      const pin = pinPath(linkFolder, pinName);
      if (tcx) {
        attachDevice({ program: program(name), ifindex, type: ATTACH[direction], pin });
        filters.detach(pinName);
      } else {
        filters.attach({ program: program(name), ifindex, direction, name: pinName });
        removePin(pin);
      }
    },
    async attachNewDevice(name, ifindex, direction, pinName) {
      const pin = pinPath(linkFolder, pinName);
      if (tcx) await attachNewDevice({ program: program(name), ifindex, type: ATTACH[direction], pin });
      else await filters.attachNew({ program: program(name), ifindex, direction, name: pinName });
    },
    attachCgroup: (name, path) =>
      attachCgroup({ program: program(name), path, type: ATTACH[name], pin: pinPath(linkFolder, name) }),
    detach(pinName) {
      removePin(pinPath(linkFolder, pinName));
      filters.detach(pinName);
    },
    pinned: () => pinnedPrograms(bpffs),
    staleMaps: () => listPins(mapFolder).filter(name => !current.has(name)),
    async takeOverFlows() {
      const taken: FlowsTaken[] = [];
      for (const pin of this.staleMaps()) {
        const name = FLOW_MAPS.find(each => each === nameOfPin(pin));
        if (!name) continue;
        using from = openPin<Row, Row>(mapFolder, pin);
        if (from.typed) taken.push({ map: name, ...(await copyRows(from.rows, this.map<Row, Row>(name))) });
      }
      return taken;
    },
    unpinStaleMaps() {
      for (const name of this.staleMaps()) removePin(join(mapFolder, name));
    },
    vanishedSockets() {
      if (!existsSync(KERNEL_BTF)) return [];
      const bytes = readIterator(program('vanished_sockets'), this.map('socket_services').fd);
      return Array.from({ length: bytes.length / socket.size }, (_, at) =>
        socket.decode(bytes, at * socket.size),
      );
    },
    testRun: (name, run) => testRun(program(name), run),
    [Symbol.dispose]() {
      filters[Symbol.dispose]();
      libbpf.objectClose(object);
    },
  };
}

/** Names of all programs that are attached from this folder, whoever loaded them. */
export const pinnedPrograms = (bpffs: string): string[] =>
  [...new Set([...listPins(join(bpffs, 'links')), ...filterNames(join(bpffs, 'filters'))])].sort();

function openMap(object: libbpf.Pointer, spec: MapSpec): BpfMap<unknown, unknown> {
  const map = libbpf.findMap(object, spec.name);
  if (map === null) throw new Error(`no map ${spec.name}`);
  return new BpfMap(spec, libbpf.check(libbpf.mapFd(map), `map ${spec.name}`));
}

function btfOf(elf: ElfObject, objectPath: string): Btf {
  const section = elf.section('.BTF');
  if (!section) throw new Error(`${objectPath} has no BTF: compile with -g`);
  return parseBtf(section.bytes);
}

/** The object's .rodata with `config` filled in. */
function readOnlyData(elf: ElfObject, btf: Btf, config: DatapathConfig): Uint8Array {
  const section = elf.section('.rodata');
  const symbol = elf.symbols.find(each => each.name === 'config' && each.section === section?.index);
  if (!section || !symbol) throw new Error('the object has no constant `config`');
  const bytes = section.bytes.slice();
  codecOf<DatapathConfig>(layoutOf(btf, typeNamed(btf, 'struct', 'config'))).encode(
    config,
    bytes,
    symbol.value,
  );
  return bytes;
}
