import { parse } from './address.ts';
import type { DatapathConfig } from './object.ts';

/** Of a node of IPv4 in the cluster with ID 1, for tests that load the programs and attach none. */
export const config: DatapathConfig = {
  node_ip: parse('192.0.2.1'),
  node_ip6: new Uint8Array(16),
  internal_ip: parse('10.1.1.1'),
  internal_ip6: new Uint8Array(16),
  hairpin_ip: parse('169.254.42.1'),
  hairpin_ip6: new Uint8Array(16),
  host_netns_cookie: 1n,
  host_ifindex: 1,
  vxlan_ifindex: 1,
  flags: 0,
  cluster_id: 1,
  cluster_shift: 16,
  nat_port_min: 61_000,
  nat_port_max: 65_535,
  vxlan_port: 8472,
  host_mac: new Uint8Array(6),
};
