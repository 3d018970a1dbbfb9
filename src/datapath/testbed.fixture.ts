import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import koffi from 'koffi';
import { buildBpf } from '../../deploy/build.ts';
import { parse, parsePrefix } from './address.ts';
import { errno, SystemCallError } from './libc.ts';
import { netnsCookie } from './netns-cookie.ts';
import { CGROUP_PROGRAMS, type Datapath, type DatapathConfig, loadDatapath } from './object.ts';

/**
 * Two nodes with pods, and the world, as network namespaces on one wire; the programs under test
 * on every device, and nothing else that would let pods talk: FORWARD drops, rp_filter is strict
 * on the wire.
 *
 *     world 192.168.77.254 ─┬─ node 1 192.168.77.1 ── pods 10.1.1.2, 10.1.1.3
 *                           └─ node 2 192.168.77.2 ── pods 10.1.2.2, 10.1.2.3
 *
 * Or of IPv6, or of both: the addresses of nodes and pods below are those of the family under test.
 */
export interface Testbed extends AsyncDisposable {
  readonly nodes: readonly [TestNode, TestNode];
  /** Network namespace of the world, and its address. */
  readonly world: string;
  readonly worldIp: string;
  /** Runs a program in a namespace to its end; `node`: in that node's cgroup, so that its socket programs see it. */
  run(netns: string, command: readonly string[], node?: TestNode): Promise<Finished>;
  /** Starts one that goes on; it is killed with the testbed. */
  start(netns: string, command: readonly string[], node?: TestNode): ChildProcess;
}

export interface Finished {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface TestPod {
  readonly netns: string;
  readonly ip: string;
  readonly identity: number;
  readonly ifindex: number;
}

export interface TestNode {
  readonly netns: string;
  readonly number: number;
  readonly ip: string;
  readonly internalIp: string;
  readonly cgroup: string;
  readonly pods: readonly TestPod[];
  readonly bpffs: string;
  readonly config: DatapathConfig;
  datapath: Datapath;
  /** Loads the object again and exchanges every program, as a restarted agent does; `tcx` may change. */
  reload(tcx?: boolean): void;
}

const run = promisify(execFile);
const libc = koffi.load('libc.so.6');
const setns: (fd: number, type: number) => number = libc.func('int setns(int fd, int type)');
const nametoindex: (name: string) => number = libc.func('unsigned int if_nametoindex(const char *name)');
const CLONE_NEWNET = 0x40000000;

/** Calls `work` with this thread in another network namespace. Synchronous, so that nothing else runs there. */
export function inNetns<T>(name: string, work: () => T): T {
  const home = openSync('/proc/self/ns/net', 'r');
  const there = openSync(`/run/netns/${name}`, 'r');
  try {
    if (setns(there, CLONE_NEWNET) < 0) throw new SystemCallError(`setns ${name}`, errno());
    return work();
  } finally {
    if (setns(home, CLONE_NEWNET) < 0) process.abort();
    closeSync(there);
    closeSync(home);
  }
}

export interface TestbedOptions extends Partial<DatapathConfig> {
  /** What is tested. Default IPv4. */
  readonly family?: 'IPv4' | 'IPv6';
  /** Of the tunnel's outer packets. Default: `family`. With another one nodes have both. */
  readonly underlay?: 'IPv4' | 'IPv6';
  /** False: programs are attached by filters of traffic control. Default true. */
  readonly tcx?: boolean;
}

/** Addresses of one family in the testbed. */
const plans = {
  IPv4: {
    bits: 32,
    world: '192.168.77.254',
    link: 24,
    pods: '10.1.0.0/16',
    hairpin: '169.254.42.1',
    node: (number: number): string => `192.168.77.${number}`,
    internal: (number: number): string => `10.1.${number}.1`,
    pod: (number: number, index: number): string => `10.1.${number}.${index + 2}`,
    service: (number: number): string => `10.96.0.${number}`,
    any: '0.0.0.0',
    loopback: '127.0.0.1',
  },
  IPv6: {
    bits: 128,
    world: 'fd00:77::fe',
    link: 64,
    pods: 'fd00:1::/32',
    hairpin: 'fe80::1',
    node: (number: number): string => `fd00:77::${number}`,
    internal: (number: number): string => `fd00:1:${number}::1`,
    pod: (number: number, index: number): string => `fd00:1:${number}::${index + 2}`,
    service: (number: number): string => `fd00:96::${number}`,
    any: '::',
    loopback: '::1',
  },
} as const;

export type AddressPlan = (typeof plans)['IPv4' | 'IPv6'];
export const planOf = (family: 'IPv4' | 'IPv6'): AddressPlan => plans[family];

/** A process for the testbed's namespaces: see wire.fixture.ts. */
export const wire = (...parameters: readonly string[]): string[] => [
  process.execPath,
  join(dirname(fileURLToPath(import.meta.url)), 'wire.fixture.ts'),
  ...parameters,
];

/** Awaits the first word of a server; throws with its complaints if it ends before. */
export async function ready(child: ChildProcess): Promise<void> {
  const stderr: Buffer[] = [];
  child.stderr?.on('data', (data: Buffer) => stderr.push(data));
  const gone = once(child, 'exit').then(() => {
    throw new Error(`server ended: ${Buffer.concat(stderr)}`);
  });
  gone.catch(() => undefined);
  await Promise.race([once(child.stdout!, 'data'), gone]);
}

export async function createTestbed({
  family = 'IPv4',
  underlay = family,
  ...options
}: TestbedOptions = {}): Promise<Testbed> {
  const families = family === underlay ? [family] : [underlay, family];
  const addresses: Addressing = {
    families: families.map(planOf),
    own: planOf(family),
    underlay: planOf(underlay),
  };
  const objectPath = await buildBpf();
  const id = `ib${process.pid.toString(36)}`;
  const folder = mkdtempSync(join(tmpdir(), 'isthmus-datapath-'));
  const bpffs = join(folder, 'bpf');
  const cgroupRoot = join(cgroup2(), id);
  const children = new Set<ChildProcess>();
  const world = `${id}-world`;
  const nodes: TestNode[] = [];

  const remove = async (): Promise<void> => {
    for (const child of children) {
      const gone =
        child.exitCode === null && child.signalCode === null
          ? new Promise(done => child.once('exit', done))
          : undefined;
      child.kill('SIGKILL');
      await gone;
    }
    for (const node of nodes) node.datapath[Symbol.dispose]();
    for (const netns of namespaces) await run('ip', ['netns', 'del', netns]).catch(() => undefined);
    for (const path of [join(cgroupRoot, 'n1'), join(cgroupRoot, 'n2'), cgroupRoot])
      if (existsSync(path)) rmdirSync(path);
    await run('umount', ['-l', bpffs]).catch(() => undefined);
    rmSync(folder, { recursive: true, force: true });
  };
  const namespaces = [
    world,
    ...[1, 2].flatMap(node => [`${id}-n${node}`, `${id}-p${node}a`, `${id}-p${node}b`]),
  ];
  try {
    mkdirSync(bpffs);
    await run('mount', ['-t', 'bpf', 'bpf', bpffs]);
    for (const netns of namespaces) {
      await run('ip', ['netns', 'add', netns]);
      inNetns(netns, () => writeFileSync('/proc/sys/net/ipv6/conf/default/accept_dad', '0'));
    }
    await ip(world, [
      'link set lo up',
      'link add wire type bridge',
      'link set wire address 02:00:00:00:77:fe up',
      ...addresses.families.map(plan => `address add ${plan.world}/${plan.link} dev wire nodad`),
    ]);
    for (const number of [1, 2])
      nodes.push(await createNode(id, number, folder, cgroupRoot, world, objectPath, addresses, options));
    for (const node of nodes) fillCluster(node, nodes, addresses);
  } catch (error) {
    await remove();
    throw error;
  }
  const argv = (netns: string, command: readonly string[], node?: TestNode): string[] =>
    node
      ? [
          'sh',
          '-c',
          `echo $$ > ${node.cgroup}/cgroup.procs && exec ip netns exec ${netns} "$@"`,
          'sh',
          ...command,
        ]
      : ['ip', 'netns', 'exec', netns, ...command];
  return {
    nodes: [nodes[0]!, nodes[1]!],
    world,
    worldIp: addresses.own.world,
    run: (netns, command, node) => {
      const [file = '', ...rest] = argv(netns, command, node);
      return new Promise(done =>
        execFile(file, rest, { timeout: 20_000 }, (error, stdout, stderr) =>
          done({ code: error ? (typeof error.code === 'number' ? error.code : 255) : 0, stdout, stderr }),
        ),
      );
    },
    start: (netns, command, node) => {
      const [file = '', ...rest] = argv(netns, command, node);
      const child = spawn(file, rest, { stdio: ['ignore', 'pipe', 'pipe'] });
      children.add(child);
      child.once('exit', () => children.delete(child));
      return child;
    },
    [Symbol.asyncDispose]: remove,
  };
}

interface Addressing {
  readonly families: readonly AddressPlan[];
  readonly own: AddressPlan;
  readonly underlay: AddressPlan;
}

/** Runs `ip` commands of one namespace in one process. */
export async function ip(netns: string, lines: readonly string[]): Promise<void> {
  const child = run('ip', ['-n', netns, '-batch', '-']);
  child.child.stdin?.end(`${lines.join('\n')}\n`);
  await child;
}

async function createNode(
  id: string,
  number: number,
  folder: string,
  cgroupRoot: string,
  world: string,
  objectPath: string,
  { families, own, underlay }: Addressing,
  { tcx: tcxAtFirst = true, ...options }: Omit<TestbedOptions, 'family' | 'underlay'>,
): Promise<TestNode> {
  const netns = `${id}-n${number}`;
  const mtu = underlay.bits === 32 ? 1450 : 1430;
  await ip(netns, [
    'link set lo up',
    `link add eth0 type veth peer name n${number} netns ${world}`,
    'link set eth0 up',
    ...families.flatMap(plan => [
      `address add ${plan.node(number)}/${plan.link} dev eth0 nodad`,
      `route add default via ${plan.world}`,
    ]),
    'link add isthmus_host type veth peer name isthmus_net',
    'link set isthmus_net arp off up',
    'link set isthmus_host arp off up',
    ...families.flatMap(plan => [
      `address add ${plan.internal(number)}/${plan.bits} dev isthmus_host nodad`,
      `route add ${plan.pods} dev isthmus_host src ${plan.internal(number)}`,
    ]),
    'link add isthmus_vxlan type vxlan external dstport 8472 nolearning udp6zerocsumrx udp6zerocsumtx',
    `link set isthmus_vxlan mtu ${mtu} up`,
  ]);
  await ip(world, [`link set n${number} master wire up`]);
  await run('ip', [
    'netns',
    'exec',
    netns,
    'nft',
    'add table inet filter; add chain inet filter FORWARD { type filter hook forward priority 0; policy drop; }',
  ]);
  inNetns(netns, () => {
    for (const [name, value] of [
      ['ipv4/ip_forward', '1'],
      ['ipv4/conf/all/rp_filter', '0'],
      ['ipv4/conf/eth0/rp_filter', '1'],
      ['ipv6/conf/all/forwarding', '1'],
    ])
      writeFileSync(`/proc/sys/net/${name}`, value!);
  });

  const pods: TestPod[] = [];
  for (const [index, letter] of ['a', 'b'].entries()) {
    const pod = `${id}-p${number}${letter}`;
    await ip(netns, [
      `link add ist${letter} address 02:00:00:0${number}:00:f${index + 2} type veth peer name eth0 netns ${pod} address 02:00:00:0${number}:00:0${index + 2}`,
      `link set ist${letter} up`,
    ]);
    await ip(pod, [
      'link set lo up',
      `link set eth0 mtu ${mtu} up`,
      ...families.flatMap(plan => [
        `address add ${plan.pod(number, index)}/${plan.bits} dev eth0 nodad`,
        `route add ${plan.internal(number)} dev eth0 ${plan.bits === 32 ? 'scope link' : ''}`,
        `route add default via ${plan.internal(number)}`,
      ]),
    ]);
    pods.push({
      netns: pod,
      ip: own.pod(number, index),
      identity: (1 << 16) | (256 + number * 16 + index),
      ifindex: ifindexOf(netns, `ist${letter}`),
    });
  }

  const cgroup = join(cgroupRoot, `n${number}`);
  mkdirSync(cgroup, { recursive: true });
  const bpffs = join(folder, 'bpf', `n${number}`);
  const addressOf = (family: 'IPv4' | 'IPv6', address: (plan: AddressPlan) => string): Uint8Array =>
    families.includes(planOf(family)) ? parse(address(planOf(family))) : new Uint8Array(16);
  const config: DatapathConfig = {
    node_ip: addressOf('IPv4', plan => plan.node(number)),
    node_ip6: addressOf('IPv6', plan => plan.node(number)),
    internal_ip: addressOf('IPv4', plan => plan.internal(number)),
    internal_ip6: addressOf('IPv6', plan => plan.internal(number)),
    hairpin_ip: addressOf('IPv4', plan => plan.hairpin),
    hairpin_ip6: addressOf('IPv6', plan => plan.hairpin),
    host_netns_cookie: inNetns(netns, netnsCookie),
    host_ifindex: ifindexOf(netns, 'isthmus_host'),
    vxlan_ifindex: ifindexOf(netns, 'isthmus_vxlan'),
    flags: 0,
    cluster_id: 1,
    cluster_shift: 16,
    nat_port_min: 61000,
    nat_port_max: 65535,
    vxlan_port: 8472,
    host_mac: new Uint8Array(6),
    ...options,
  };
  const uplink = ifindexOf(netns, 'eth0');
  const load = (tcx: boolean): Datapath =>
    inNetns(netns, () => {
      const datapath = loadDatapath({ objectPath, bpffs, config, tcx });
      for (const [index, pod] of pods.entries())
        datapath.attachDevice('from_pod', pod.ifindex, 'ingress', `pod-${index}`);
      datapath.attachDevice('from_host', config.host_ifindex, 'egress', 'host');
      datapath.attachDevice('from_overlay', config.vxlan_ifindex, 'ingress', 'overlay');
      datapath.attachDevice('from_netdev', uplink, 'ingress', 'netdev-in');
      datapath.attachDevice('to_netdev', uplink, 'egress', 'netdev-out');
      for (const program of CGROUP_PROGRAMS) datapath.attachCgroup(program, cgroup);
      return datapath;
    });
  const node: TestNode = {
    netns,
    number,
    ip: own.node(number),
    internalIp: own.internal(number),
    cgroup,
    pods,
    bpffs,
    config,
    datapath: load(tcxAtFirst),
    reload(tcx = tcxAtFirst) {
      const old = node.datapath;
      node.datapath = load(tcx);
      old[Symbol.dispose]();
    },
  };
  return node;
}

/** The rows an agent of one node writes about all nodes and pods of the cluster. */
function fillCluster(node: TestNode, nodes: readonly TestNode[], { families, underlay }: Addressing): void {
  const endpoints = node.datapath.map('endpoints');
  for (const plan of families) {
    for (const { number, pods } of nodes) {
      const own = number === node.number;
      const tunnel = underlay.node(number);
      setNode(node, plan.node(number), 1, own ? 3 : 2);
      setIpcache(node, plan.node(number), own ? 1 : 6, undefined);
      setIpcache(node, plan.internal(number), own ? 1 : 6, own ? undefined : tunnel);
      for (const [index, pod] of pods.entries())
        setIpcache(node, plan.pod(number, index), pod.identity, tunnel);
    }
    for (const address of [plan.node(node.number), plan.internal(node.number)])
      endpoints.set({ cluster_id: 0, addr: parse(address) }, { ...endpoint, flags: 1, identity: 1 });
    for (const [index, pod] of node.pods.entries())
      endpoints.set(
        { cluster_id: 0, addr: parse(plan.pod(node.number, index)) },
        {
          ...endpoint,
          ifindex: pod.ifindex,
          identity: pod.identity,
          endpoint_id: index + 1,
          mac: Uint8Array.of(2, 0, 0, node.number, 0, index + 2),
          host_mac: Uint8Array.of(2, 0, 0, node.number, 0, 0xf0 + index + 2),
        },
      );
  }
}

const endpoint = {
  ifindex: 0,
  identity: 0,
  endpoint_id: 0,
  policy_set: 0,
  mac: new Uint8Array(6),
  host_mac: new Uint8Array(6),
  flags: 0,
};

export function setNode(node: TestNode, address: string, cluster: number, flags: number): void {
  node.datapath.map('nodes').set({ addr: parse(address) }, { cluster_id: cluster, flags });
}

export function setIpcache(
  node: TestNode,
  prefix: string,
  identity: number,
  tunnel: string | undefined,
): void {
  const { addr, length } = parsePrefix(prefix);
  node.datapath
    .map('ipcache')
    .set(
      { prefixlen: 32 + length, cluster_id: 0, addr },
      { identity, tunnel: tunnel ? parse(tunnel) : new Uint8Array(16), encrypt_key: 0, flags: 0 },
    );
}

export interface TestService {
  readonly id: number;
  /** A NodePort: the unspecified address of its family. */
  readonly address: string;
  readonly port: number;
  readonly protocol: 'tcp' | 'udp';
  readonly backends: readonly { readonly id: number; readonly address: string; readonly port: number }[];
  /** FRONTEND_*, besides that of a NodePort. */
  readonly flags?: number;
  /** Seconds. */
  readonly affinityTimeout?: number;
  readonly scope?: number;
}

const PROTOCOL = { tcp: 6, udp: 17 } as const;

/** Writes a service in the order an agent does: backends, slots, frontend. */
export function setService(node: TestNode, service: TestService): void {
  const { id, address, port, protocol, backends, flags = 0, affinityTimeout = 0, scope = 0 } = service;
  const { datapath } = node;
  const proto = PROTOCOL[protocol];
  for (const backend of backends)
    datapath
      .map('backends')
      .set(
        { backend_id: backend.id },
        { addr: parse(backend.address), port: backend.port, proto, flags: 0, cluster_id: 0 },
      );
  for (const [slot, backend] of backends.entries())
    datapath.map('slots').set({ service_id: id, slot }, { backend_id: backend.id });
  datapath.map('frontends').set(
    { addr: parse(address), port, proto, scope },
    {
      service_id: id,
      count: backends.length,
      affinity_timeout: affinityTimeout,
      flags: flags | (address === '::' || address === '0.0.0.0' ? 2 : 0),
    },
  );
}

/** Packets counted under a reason's name on a node, all directions and CPUs. */
export function counted(node: TestNode, reason: string): number {
  const number = [...node.datapath.reasons].find(([, name]) => name === reason)?.[0];
  if (number === undefined) throw new Error(`no reason ${reason}`);
  const map = node.datapath.map<number, { readonly packets: bigint }>('metrics');
  let packets = 0n;
  for (const direction of [0, 1, 2, 3])
    for (const value of map.getPerCpu(number * 4 + direction)) packets += value.packets;
  return Number(packets);
}

function ifindexOf(netns: string, device: string): number {
  const index = inNetns(netns, () => nametoindex(device));
  if (!index) throw new Error(`${netns} has no device ${device}`);
  return index;
}

function cgroup2(): string {
  const line = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .find(each => each.includes(' - cgroup2 '));
  const path = line?.split(' ')[4];
  if (!path) throw new Error('no cgroup v2 is mounted');
  return path;
}
