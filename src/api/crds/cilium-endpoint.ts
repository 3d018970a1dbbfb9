import * as z from 'zod';
import { boolean, customResource, integer, list, long, open, text } from './custom-resource.ts';

/** A pod's endpoint as the agent on its node publishes it, one object per pod and of the pod's name. */
export const CiliumEndpoint = z.object({
  metadata: z.object({
    name: z.string(),
    namespace: z.string(),
    uid: z.string(),
    resourceVersion: z.string(),
    ownerReferences: z.array(z.object({ kind: z.string(), name: z.string(), uid: z.string() })).nullish(),
  }),
  status: z
    .object({
      id: z.number().nullish(),
      identity: z.object({ id: z.number().nullish() }).nullish(),
      networking: z
        .object({
          addressing: z.array(z.object({ ipv4: z.string().nullish(), ipv6: z.string().nullish() })).nullish(),
          node: z.string().nullish(),
        })
        .nullish(),
      encryption: z.object({ key: z.number().nullish() }).nullish(),
      'named-ports': z
        .array(
          z.object({
            name: z.string().nullish(),
            port: z.number().nullish(),
            protocol: z.string().nullish(),
          }),
        )
        .nullish(),
      'service-account': z.string().nullish(),
      state: z.string().nullish(),
    })
    .nullish(),
});
export type CiliumEndpoint = z.infer<typeof CiliumEndpoint>;

/** State of an endpoint whose pod has been told to end. */
export const LEAVING = 'disconnecting';

/** The row an endpoint of any node of the own cluster is known by. */
export interface EndpointObjectRow {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly podUid: string;
  /** 0 while the endpoint has none. */
  readonly identity: number;
  /** Addresses of the pod. */
  readonly addresses: readonly string[];
  /** Address of the node it is on; '' when unknown. */
  readonly nodeIp: string;
  readonly encryptionKey: number;
  readonly serviceAccount: string;
  /** The pod has been told to end. */
  readonly leaving: boolean;
}

export function endpointObjectRow(object: CiliumEndpoint): EndpointObjectRow {
  const { metadata, status } = object;
  const pairs = status?.networking?.addressing ?? [];
  return {
    namespace: metadata.namespace,
    name: metadata.name,
    uid: metadata.uid,
    podUid: metadata.ownerReferences?.find(each => each.kind === 'Pod')?.uid ?? '',
    identity: status?.identity?.id ?? 0,
    addresses: pairs.flatMap(each =>
      [each.ipv4, each.ipv6].filter(ip => ip !== undefined && ip !== null && ip !== ''),
    ) as string[],
    nodeIp: status?.networking?.node ?? '',
    encryptionKey: status?.encryption?.key ?? 0,
    serviceAccount: status?.['service-account'] ?? '',
    leaving: status?.state === LEAVING,
  };
}

const direction = open({ enforcing: boolean, state: text }, ['enforcing']);

export const ciliumEndpointDefinition = customResource({
  kind: 'CiliumEndpoint',
  plural: 'ciliumendpoints',
  shortNames: ['cep', 'ciliumep'],
  scope: 'Namespaced',
  version: 'v2',
  // As in Cilium: one write creates the object with its status.
  statusSubresource: false,
  description: "A pod's endpoint: its addresses and security identity, written by the agent of its node.",
  columns: [
    {
      name: 'Security Identity',
      type: 'integer',
      jsonPath: '.status.identity.id',
      description: 'Security identity',
    },
    {
      name: 'Endpoint State',
      type: 'string',
      jsonPath: '.status.state',
      description: 'State of the endpoint',
    },
    {
      name: 'IPv4',
      type: 'string',
      jsonPath: '.status.networking.addressing[0].ipv4',
      description: 'IPv4 address',
    },
    {
      name: 'IPv6',
      type: 'string',
      jsonPath: '.status.networking.addressing[0].ipv6',
      description: 'IPv6 address',
    },
    {
      name: 'Node',
      type: 'string',
      jsonPath: '.status.networking.node',
      priority: 1,
      description: 'Node address',
    },
    {
      name: 'Endpoint ID',
      type: 'integer',
      jsonPath: '.status.id',
      priority: 1,
      description: 'ID on its node',
    },
  ],
  properties: {
    status: open({
      id: long,
      identity: open({ id: long, labels: list(text) }),
      networking: open({ addressing: list(open({ ipv4: text, ipv6: text })), node: text }, ['addressing']),
      encryption: open({ key: integer }),
      'external-identifiers': open({
        'container-id': text,
        'container-name': text,
        'cni-attachment-id': text,
        'k8s-namespace': text,
        'k8s-pod-name': text,
        'pod-name': text,
      }),
      'named-ports': list(open({ name: text, port: integer, protocol: text })),
      'service-account': text,
      policy: open({ ingress: direction, egress: direction }),
      state: {
        type: 'string',
        enum: [
          'creating',
          'waiting-for-identity',
          'not-ready',
          'waiting-to-regenerate',
          'regenerating',
          'restoring',
          'ready',
          'disconnecting',
          'disconnected',
          'invalid',
        ],
      },
    }),
  },
});
