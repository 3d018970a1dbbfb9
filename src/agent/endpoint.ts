/** A pod's attachment to the network on this node, and how it is named. Pure. */
import * as z from 'zod';
import { parse } from '../datapath/address.ts';
import { macBytes } from '../datapath/netlink-address.ts';
import { Table } from '../table/table.ts';

/** Identity of an endpoint whose labels are not known yet (Cilium's reserved:init). */
export const IDENTITY_INIT = 5;

const portMapping = z.object({
  hostPort: z.int().min(0).max(65535),
  containerPort: z.int().min(1).max(65535),
  protocol: z
    .string()
    .transform(text => text.toLowerCase())
    .pipe(z.enum(['tcp', 'udp', 'sctp'])),
  hostIP: z.string().optional(),
});

/** A pod's hostPort (CNI convention `portMappings`); hostPort 0 is none. */
export type PortMapping = z.infer<typeof portMapping>;
export const portMappings = z.array(portMapping);

export const endpointSchema = z.object({
  /** 1 to 65535, unique on the node while the endpoint lives. */
  id: z.int().min(1).max(65535),
  containerId: z.string().min(1),
  /** Device name in the pod. */
  ifName: z.string().min(1),
  /** Path of the pod's network namespace as the runtime named it. */
  netns: z.string(),
  /** CNI network name of the configuration that made it. */
  network: z.string(),
  hostIfName: z.string().min(1),
  /** Of the host side; 0 until the veth is made. */
  ifindex: z.int().min(0),
  /** Addresses of the families that the cluster had when it was made, each with its gateway. */
  ipv4: z.ipv4().optional(),
  gateway: z.ipv4().optional(),
  ipv6: z.ipv6().optional(),
  gateway6: z.ipv6().optional(),
  mtu: z.int().min(576),
  mac: z.mac(),
  hostMac: z.mac(),
  /** Kubernetes names; empty when the attachment is not a pod's. */
  namespace: z.string(),
  podName: z.string(),
  podUid: z.string(),
  portMappings: portMappings.readonly(),
  /** Security identity; absent until it is known. */
  identity: z.int().optional(),
  /** creating: the plugin is at work; ready: programs attached; deleting: no traffic any more. */
  state: z.enum(['creating', 'ready', 'deleting']),
  /** ISO 8601. */
  createdAt: z.string(),
});

export type Endpoint = Readonly<z.infer<typeof endpointSchema>>;

/** Key of an attachment in tables; also the alias of its host device. */
export const attachmentKey = (containerId: string, ifName: string): string => `${containerId}/${ifName}`;
export const endpointKey = (endpoint: Endpoint): string =>
  attachmentKey(endpoint.containerId, endpoint.ifName);

/** One of an endpoint's addresses. */
export interface EndpointAddress {
  readonly address: string;
  readonly gateway: string;
  /** Bits of the address: 32 or 128. */
  readonly bits: 32 | 128;
}

/** What an endpoint has of each family, IPv4 first. */
export function addressesOf({
  ipv4,
  gateway,
  ipv6,
  gateway6,
}: Pick<Endpoint, 'ipv4' | 'gateway' | 'ipv6' | 'gateway6'>): EndpointAddress[] {
  return [
    ...(ipv4 && gateway ? [{ address: ipv4, gateway, bits: 32 as const }] : []),
    ...(ipv6 && gateway6 ? [{ address: ipv6, gateway: gateway6, bits: 128 as const }] : []),
  ];
}

/** The addresses as text for people and logs. */
export const addressText = (endpoint: Endpoint): string =>
  addressesOf(endpoint)
    .map(each => each.address)
    .join(' ');

/** Indexes: `address`, `pod` ('namespace/name'), `id`. */
export const endpointTable = (): Table<Endpoint> =>
  new Table<Endpoint>({
    name: 'endpoints',
    keyOf: endpointKey,
    indexes: {
      address: row => addressesOf(row).map(each => each.address),
      pod: row => [`${row.namespace}/${row.podName}`],
      id: row => [String(row.id)],
    },
  });

/**
 * Name of the host side of an attachment's veth: 'ist' and 44 bits of FNV-1a over its key, so that the
 * plugin finds the device without the agent (cni/isthmus-cni.c, host_name, computes the same).
 */
export function hostInterfaceName(key: string): string {
  let hash = 0xcbf29ce484222325n;
  for (const byte of Buffer.from(key)) hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & 0xffffffffffffffffn;
  return `ist${(hash & 0xfffffffffffn).toString(16).padStart(11, '0')}`;
}

/** True for a name `hostInterfaceName` can make. */
export const isHostInterfaceName = (name: string): boolean => /^ist[0-9a-f]{11}$/.test(name);

/** Where the link of `from_pod` on an endpoint's host device is pinned, below the datapath's folder of links. */
export const fromPodPin = (hostIfName: string): string => `from_pod_${hostIfName}`;

/** Row of the BPF map `endpoints` (bpf/types.h). */
export interface EndpointMapRow {
  readonly key: { readonly cluster_id: number; readonly pad: number; readonly addr: Uint8Array };
  readonly value: {
    readonly ifindex: number;
    readonly identity: number;
    readonly endpoint_id: number;
    readonly policy_set: number;
    readonly mac: Uint8Array;
    readonly host_mac: Uint8Array;
    readonly flags: number;
  };
}

/** What the datapath needs to deliver to one address of an endpoint; undefined while it must not. */
export function endpointMapRow(endpoint: Endpoint, address: string): EndpointMapRow | undefined {
  if (endpoint.state !== 'ready') return undefined;
  return {
    key: { cluster_id: 0, pad: 0, addr: parse(address) },
    value: {
      ifindex: endpoint.ifindex,
      identity: endpoint.identity ?? IDENTITY_INIT,
      endpoint_id: endpoint.id,
      policy_set: 0,
      mac: macBytes(endpoint.mac),
      host_mac: macBytes(endpoint.hostMac),
      flags: 0,
    },
  };
}
