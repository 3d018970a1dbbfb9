import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildBpf } from '../../deploy/build.ts';
import { parse, parsePrefix } from './address.ts';
import { type Datapath, type DatapathConfig, type DeviceProgram, loadDatapath } from './object.ts';
import { type Ports, PROTO } from './packet.fixture.ts';

/** Loopback stands for the pod's device: packets of a test run come from it. */
export const DEVICE = 1;
export const POD = '10.1.1.2';
export const NEIGHBOUR = '10.1.1.3';
export const REMOTE = '10.1.2.2';
export const REMOTE_NODE = '192.168.77.2';
export const NODE = '192.168.77.1';
export const INTERNAL = '10.1.1.1';
export const WORLD = '198.51.100.7';
export const VIP = '10.96.0.10';
export const EMPTY_VIP = '10.96.0.99';

/** The node of the tests in both families. */
export const IPV4 = {
  POD,
  NEIGHBOUR,
  REMOTE,
  NODE,
  INTERNAL,
  WORLD,
  VIP,
  EMPTY_VIP,
  POD_CIDR: '10.1.1.0/24',
  HAIRPIN: '169.254.42.1',
  ROUTER: '203.0.113.9',
};
export const IPV6: typeof IPV4 = {
  POD: 'fd00:1:1::2',
  NEIGHBOUR: 'fd00:1:1::3',
  REMOTE: 'fd00:1:2::2',
  NODE: 'fd00:77::1',
  INTERNAL: 'fd00:1:1::1',
  WORLD: '2001:db8::7',
  VIP: 'fd00:96::10',
  EMPTY_VIP: 'fd00:96::99',
  POD_CIDR: 'fd00:1:1::/64',
  HAIRPIN: 'fe80::1',
  ROUTER: '2001:db8::9',
};
export const REMOTE_NODE6 = 'fd00:77::2';
export const FAMILIES = [
  ['IPv4', IPV4],
  ['IPv6', IPV6],
] as const;

export interface Sent {
  readonly verdict: number;
  readonly out: Uint8Array;
  /** What was counted, by name. */
  readonly reasons: readonly string[];
}

/** Loaded programs of a node with two pods and some services, attached to nothing. */
export interface Programs extends Disposable {
  readonly datapath: Datapath;
  /** `mark` is the packet's skb->mark. */
  send(program: DeviceProgram, packet: Uint8Array, mark?: number): Sent;
  endpoint(address: string, ifindex: number, flags: number): void;
  /** `tunnel` undefined: not behind one. */
  ipcache(prefix: string, identity: number, tunnel: string | undefined): void;
  /** Writes a service in the order an agent does; `flags` are FRONTEND_*, and a NodePort has no address. */
  service(
    id: number,
    address: string | undefined,
    port: number,
    proto: number,
    backends: readonly { readonly id: number; readonly address: string; readonly port: number }[],
    options?: { readonly flags?: number; readonly affinityTimeout?: number; readonly scope?: number },
  ): void;
  /** Forgets all flows. */
  forget(): void;
}

export const ports = (from: string, to: string, fromPort = 40_000, toPort = 80): Ports => ({
  from,
  to,
  fromPort,
  toPort,
});

export async function createPrograms(options: Partial<DatapathConfig> = {}): Promise<Programs> {
  const objectPath = await buildBpf();
  const folder = mkdtempSync(join(tmpdir(), 'isthmus-programs-'));
  execFileSync('mount', ['-t', 'bpf', 'bpf', folder]);
  const datapath = loadDatapath({
    objectPath,
    bpffs: folder,
    config: {
      node_ip: parse(NODE),
      node_ip6: parse(IPV6.NODE),
      internal_ip: parse(INTERNAL),
      internal_ip6: parse(IPV6.INTERNAL),
      hairpin_ip: parse('169.254.42.1'),
      hairpin_ip6: parse(IPV6.HAIRPIN),
      host_netns_cookie: 1n,
      host_ifindex: DEVICE,
      vxlan_ifindex: DEVICE,
      flags: 0,
      cluster_id: 1,
      cluster_shift: 16,
      nat_port_min: 61_000,
      nat_port_max: 61_003,
      vxlan_port: 8472,
      host_mac: new Uint8Array(6),
      ...options,
    },
  });
  const endpoint = (address: string, ifindex: number, flags: number): void =>
    datapath.map('endpoints').set(
      { cluster_id: 0, addr: parse(address) },
      {
        ifindex,
        identity: 65800,
        endpoint_id: 1,
        policy_set: 0,
        mac: Uint8Array.of(2, 0, 0, 0, 1, 1),
        host_mac: Uint8Array.of(2, 0, 0, 0, 1, 2),
        flags,
      },
    );
  const ipcache = (prefix: string, identity: number, tunnel: string | undefined): void => {
    const { addr, length } = parsePrefix(prefix);
    datapath
      .map('ipcache')
      .set(
        { prefixlen: 32 + length, cluster_id: 0, addr },
        { identity, tunnel: tunnel ? parse(tunnel) : new Uint8Array(16), encrypt_key: 0, flags: 0 },
      );
  };
  const service: Programs['service'] = (
    id,
    address,
    port,
    proto,
    backends,
    { flags = 0, affinityTimeout = 0, scope = 0 } = {},
  ) => {
    for (const [slot, backend] of backends.entries()) {
      datapath
        .map('backends')
        .set(
          { backend_id: backend.id },
          { addr: parse(backend.address), port: backend.port, proto, flags: 0, cluster_id: 0 },
        );
      datapath.map('slots').set({ service_id: id, slot }, { backend_id: backend.id });
    }
    datapath
      .map('frontends')
      .set(
        { addr: parse(address ?? '0.0.0.0'), port, proto, scope },
        { service_id: id, count: backends.length, affinity_timeout: affinityTimeout, flags },
      );
  };
  /** Runs a packet and names the reasons that were counted. */
  const send: Programs['send'] = (program, packet, mark = 0) => {
    const before = counters();
    const { verdict, packet: out } = datapath.testRun(program, { packet, ifindex: DEVICE, mark });
    const reasons = [...counters()]
      .filter(([reason, n]) => n > (before.get(reason) ?? 0))
      .map(([reason]) => reason);
    return { verdict, out, reasons };
  };
  const counters = (): Map<string, number> => {
    const map = datapath.map<number, { readonly packets: bigint }>('metrics');
    return new Map(
      [...datapath.reasons].map(([number, name]) => [
        name,
        [0, 1, 2, 3].reduce(
          (sum, direction) =>
            sum + map.getPerCpu(number * 4 + direction).reduce((n, each) => n + Number(each.packets), 0),
          0,
        ),
      ]),
    );
  };

  for (const node of [REMOTE_NODE, REMOTE_NODE6])
    datapath.map('nodes').set({ addr: parse(node) }, { cluster_id: 1, flags: 0 });
  for (const [at, family] of [IPV4, IPV6].entries()) {
    endpoint(family.POD, DEVICE, 0);
    endpoint(family.NEIGHBOUR, DEVICE + 1000, 0);
    endpoint(family.NODE, 0, 1);
    endpoint(family.INTERNAL, 0, 1);
    ipcache(`${family.REMOTE}/${at ? 128 : 32}`, 65_792, REMOTE_NODE);
    ipcache(family.POD_CIDR, 2, NODE);
    const id = (number: number): number => number + at * 10;
    service(id(1), family.VIP, 80, PROTO.tcp, [{ id: id(1), address: family.REMOTE, port: 8080 }]);
    service(id(2), family.VIP, 53, PROTO.udp, [{ id: id(2), address: family.REMOTE, port: 5353 }]);
    service(id(3), family.EMPTY_VIP, 80, PROTO.tcp, []);
    service(id(4), family.EMPTY_VIP, 53, PROTO.udp, []);
    service(id(5), family.VIP, 81, PROTO.tcp, [{ id: id(3), address: family.POD, port: 8080 }]);
  }
  return {
    datapath,
    send,
    endpoint,
    ipcache,
    service,
    forget() {
      for (const name of ['conntrack', 'nat', 'fragments', 'affinity'] as const)
        for (const [key] of [...datapath.map(name).entries()]) datapath.map(name).delete(key);
    },
    [Symbol.dispose]() {
      datapath[Symbol.dispose]();
      execFileSync('umount', ['-l', folder]);
      rmSync(folder, { recursive: true });
    },
  };
}
