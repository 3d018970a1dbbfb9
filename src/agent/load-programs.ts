import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { clusterShift } from '../api/identity-number.ts';
import { parse } from '../datapath/address.ts';
import { macBytes } from '../datapath/netlink-address.ts';
import { netnsCookie } from '../datapath/netns-cookie.ts';
import {
  CONFIG_FLAG,
  type Datapath,
  loadDatapath,
  type MapName,
  pinnedPrograms,
} from '../datapath/object.ts';
import { readSysctl } from '../datapath/sysctl.ts';
import { packageRoot } from '../package-root.ts';
import type { AgentConfig } from './config.ts';
import type { Devices } from './devices.ts';
import { natPorts } from './nat-ports.ts';
import type { NodeFamily, ReadyNode } from './own-node.ts';
import { unmasqueradedPrefixes } from './unmasqueraded.ts';

/** Sources that a pod sees when it reaches itself by a service: link-local, as Cilium's. */
const HAIRPIN = { 4: '169.254.42.1', 6: 'fe80::1' } as const;

export interface LoadProgramsOptions {
  readonly config: AgentConfig;
  readonly node: Pick<ReadyNode, 'families'>;
  readonly devices: Devices;
}

/** 32 bits of a seed's text. */
function seedOf(text: string): number {
  return createHash('sha256').update(Buffer.from(text, 'base64')).digest().readUInt32LE(0);
}

/** Folder of our pins in the bpffs. */
export function bpfFolder(config: AgentConfig): string {
  return join(config['bpf-root'], 'isthmus');
}

/** True where programs of an earlier agent are at work: the node was not started anew since. */
export function isAdopting(config: AgentConfig): boolean {
  return pinnedPrograms(bpfFolder(config)).includes('from_host');
}

/** Loads the programs with what they must know of this node; maps that are pinned are adopted. */
export function loadPrograms({ config, node, devices }: LoadProgramsOptions): Datapath {
  const [first = 32_768, last = 60_999] = readSysctl('net/ipv4/ip_local_port_range').split(/\s+/).map(Number);
  const { first: min, last: max } = config['node-port-range'];
  const ports = natPorts({ min: first, max: last }, { min, max });
  const sizes: Partial<Record<MapName, number>> = {};
  const size = (name: MapName, rows: number | undefined): void => {
    if (rows !== undefined) sizes[name] = rows;
  };
  size('conntrack', config['bpf-ct-global-tcp-max']);
  size('nat', config['bpf-nat-global-max']);
  const services = config['bpf-lb-map-max'];
  for (const name of ['frontends', 'service_addresses', 'source_ranges', 'affinity'] as const)
    size(name, services);
  // As by default: twice as many backends as frontends.
  for (const name of ['slots', 'backends', 'affinity_members'] as const)
    size(name, services === undefined ? undefined : services * 2);
  const addressOf = (family: 4 | 6, address: (of: NodeFamily) => string): Uint8Array => {
    const found = node.families.find(each => each.family === family);
    return found ? parse(address(found)) : new Uint8Array(16);
  };
  return loadDatapath({
    objectPath: join(packageRoot, 'bpf/isthmus.bpf.o'),
    bpffs: bpfFolder(config),
    sizes,
    tcx: config['enable-tcx'],
    config: {
      node_ip: addressOf(4, each => each.address),
      node_ip6: addressOf(6, each => each.address),
      internal_ip: addressOf(4, each => each.internalAddress),
      internal_ip6: addressOf(6, each => each.internalAddress),
      hairpin_ip: addressOf(4, () => HAIRPIN[4]),
      hairpin_ip6: addressOf(6, () => HAIRPIN[6]),
      host_netns_cookie: netnsCookie(),
      host_ifindex: devices.host.index,
      vxlan_ifindex: devices.vxlan.index,
      flags:
        (config['node-port-bind-protection'] ? CONFIG_FLAG.protectNodePorts : 0) |
        (config['bpf-lb-sock-hostns-only'] ? CONFIG_FLAG.socketHostOnly : 0) |
        (config['tunnel-unpack'] === 'device' ? CONFIG_FLAG.unpackByDevice : 0) |
        (config['routing-mode'] === 'tunnel' ? 0 : CONFIG_FLAG.direct) |
        (unmasqueradedPrefixes(config).length ? CONFIG_FLAG.unmasqueraded : 0),
      maglev_size: config['bpf-lb-maglev-table-size'],
      maglev_seed: seedOf(config['bpf-lb-maglev-hash-seed']),
      cluster_id: config['cluster-id'],
      cluster_shift: clusterShift(config['max-connected-clusters']),
      nat_port_min: ports.min,
      nat_port_max: ports.max,
      vxlan_port: config['tunnel-port'],
      host_mac: macBytes(devices.host.mac),
    },
  });
}
