import * as z from 'zod';
import { customResource, integer, list, mapOf, open, text } from './custom-resource.ts';

const strings = z.record(z.string(), z.string());

/** A node as the agents of its cluster know it. */
export const CiliumNode = z.object({
  metadata: z.object({
    name: z.string(),
    uid: z.string(),
    resourceVersion: z.string(),
    labels: strings.nullish(),
    annotations: strings.nullish(),
  }),
  spec: z.object({
    addresses: z.array(z.object({ type: z.string(), ip: z.string() })).nullish(),
    bootid: z.string().nullish(),
    encryption: z.object({ key: z.number().nullish() }).nullish(),
    health: z.object({ ipv4: z.string().nullish(), ipv6: z.string().nullish() }).nullish(),
    ingress: z.object({ ipv4: z.string().nullish(), ipv6: z.string().nullish() }).nullish(),
    ipam: z.object({ podCIDRs: z.array(z.string()).nullish() }).nullish(),
  }),
});
export type CiliumNode = z.infer<typeof CiliumNode>;

export type NodeAddressType =
  | 'InternalIP'
  | 'ExternalIP'
  | 'CiliumInternalIP'
  | 'Hostname'
  | 'InternalDNS'
  | 'ExternalDNS';

/** The row a node of the own cluster is known by. */
export interface NodeRow {
  readonly name: string;
  readonly uid: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  /** Type (`InternalIP`, `CiliumInternalIP`…) and address. */
  readonly addresses: readonly { readonly type: string; readonly ip: string }[];
  readonly podCidrs: readonly string[];
  readonly healthIp: string;
  readonly ingressIp: string;
  readonly encryptionKey: number;
  readonly bootId: string;
}

export function nodeRow(object: CiliumNode): NodeRow {
  const { metadata, spec } = object;
  return {
    name: metadata.name,
    uid: metadata.uid,
    labels: metadata.labels ?? {},
    annotations: metadata.annotations ?? {},
    addresses: spec.addresses ?? [],
    podCidrs: spec.ipam?.podCIDRs ?? [],
    healthIp: spec.health?.ipv4 ?? '',
    ingressIp: spec.ingress?.ipv4 ?? '',
    encryptionKey: spec.encryption?.key ?? 0,
    bootId: spec.bootid ?? '',
  };
}

/** The address other nodes send to: InternalIP, then ExternalIP, then any but the CiliumInternalIP. */
export function nodeAddress(node: Pick<NodeRow, 'addresses'>): string | undefined {
  const usable = node.addresses.filter(
    each => /^[0-9.]+$|:/.test(each.ip) && each.type !== 'CiliumInternalIP',
  );
  const preferred = ['InternalIP', 'ExternalIP'].map(type => usable.find(each => each.type === type));
  return (preferred.find(each => each !== undefined) ?? usable[0])?.ip;
}

/** The addresses of isthmus_host on that node, one a family. */
export function internalAddresses(node: Pick<NodeRow, 'addresses'>): string[] {
  return node.addresses.flatMap(each =>
    each.type === 'CiliumInternalIP' && each.ip !== '' ? [each.ip] : [],
  );
}

const addressing = open({ ipv4: text, ipv6: text });

export const ciliumNodeDefinition = customResource({
  kind: 'CiliumNode',
  plural: 'ciliumnodes',
  shortNames: ['cn', 'ciliumn'],
  scope: 'Cluster',
  version: 'v2',
  statusSubresource: true,
  description: 'A node of the cluster: its addresses, pod ranges and keys, written by the agent on it.',
  columns: [
    {
      name: 'CiliumInternalIP',
      type: 'string',
      jsonPath: '.spec.addresses[?(@.type=="CiliumInternalIP")].ip',
      description: 'Address of the node in its pod range',
    },
    {
      name: 'InternalIP',
      type: 'string',
      jsonPath: '.spec.addresses[?(@.type=="InternalIP")].ip',
      description: 'Address other nodes reach it at',
    },
    { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' },
  ],
  required: ['spec'],
  properties: {
    spec: open({
      addresses: list(open({ type: text, ip: text })),
      bootid: text,
      encryption: open({ key: integer }),
      health: addressing,
      ingress: addressing,
      'instance-id': text,
      nodeidentity: integer,
      ipam: open({ podCIDRs: list(text), pool: mapOf(open({ owner: text, resource: text })) }),
    }),
    status: open({}),
  },
});
