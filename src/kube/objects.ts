import * as z from 'zod';

/**
 * Schemas of Kubernetes' own objects, only the fields Isthmus reads; everything else is dropped while
 * parsing, so that a table holds what is used. Go writes absent lists and maps as null or not at all:
 * both become undefined or empty here.
 */

const strings = z.record(z.string(), z.string());

const text = z.string().nullish();

export const OwnerReference = z.object({
  apiVersion: z.string(),
  kind: z.string(),
  name: z.string(),
  uid: z.string(),
  controller: z.boolean().optional(),
});

export const ObjectMeta = z.object({
  name: z.string(),
  namespace: z.string().optional(),
  uid: z.string(),
  resourceVersion: z.string(),
  generation: z.number().optional(),
  creationTimestamp: z.string().nullish(),
  deletionTimestamp: text,
  labels: strings.nullish(),
  annotations: strings.nullish(),
  ownerReferences: z.array(OwnerReference).nullish(),
});
export type ObjectMeta = z.infer<typeof ObjectMeta>;

export const Condition = z.object({
  type: z.string(),
  status: z.enum(['True', 'False', 'Unknown']),
  reason: text,
  message: text,
  lastTransitionTime: text,
});

/** Any object, when its metadata is all one needs. */
export const AnyObject = z.object({ metadata: ObjectMeta });
export type AnyObject = z.infer<typeof AnyObject>;

export const Namespace = z.object({
  metadata: z.object({
    name: z.string(),
    uid: z.string(),
    labels: strings.nullish(),
    annotations: strings.nullish(),
    deletionTimestamp: text,
  }),
});
export type Namespace = z.infer<typeof Namespace>;

export const ContainerPort = z.object({
  name: text,
  containerPort: z.number(),
  protocol: z.enum(['TCP', 'UDP', 'SCTP']).nullish(),
  hostPort: z.number().nullish(),
});

const Container = z.object({
  name: z.string(),
  image: text,
  ports: z.array(ContainerPort).nullish(),
});

export const Pod = z.object({
  metadata: ObjectMeta,
  spec: z.object({
    nodeName: text,
    serviceAccountName: text,
    hostNetwork: z.boolean().nullish(),
    containers: z.array(Container),
    initContainers: z.array(Container.extend({ restartPolicy: text })).nullish(),
  }),
  status: z
    .object({
      phase: text,
      podIP: text,
      podIPs: z.array(z.object({ ip: z.string() })).nullish(),
      hostIP: text,
      conditions: z.array(Condition).nullish(),
    })
    .nullish(),
});
export type Pod = z.infer<typeof Pod>;

export const Taint = z.object({ key: z.string(), value: text, effect: z.string(), timeAdded: text });

export const Node = z.object({
  metadata: ObjectMeta,
  spec: z.object({
    podCIDR: text,
    podCIDRs: z.array(z.string()).nullish(),
    providerID: text,
    unschedulable: z.boolean().nullish(),
    taints: z.array(Taint).nullish(),
  }),
  status: z
    .object({
      addresses: z.array(z.object({ type: z.string(), address: z.string() })).nullish(),
      conditions: z.array(Condition).nullish(),
      nodeInfo: z.object({ bootID: z.string(), kubeletVersion: text, kernelVersion: text }).nullish(),
    })
    .nullish(),
});
export type Node = z.infer<typeof Node>;

export const Secret = z.object({
  metadata: ObjectMeta,
  type: text,
  /** Values in base64. */
  data: strings.nullish(),
});
export type Secret = z.infer<typeof Secret>;

export const ConfigMap = z.object({
  metadata: ObjectMeta,
  data: strings.nullish(),
});
export type ConfigMap = z.infer<typeof ConfigMap>;

export const Lease = z.object({
  metadata: ObjectMeta,
  spec: z
    .object({
      holderIdentity: text,
      leaseDurationSeconds: z.number().nullish(),
      acquireTime: text,
      renewTime: text,
      leaseTransitions: z.number().nullish(),
    })
    .nullish(),
});
export type Lease = z.infer<typeof Lease>;

/** The condition of a type, if the object has it. */
export function conditionOf(
  object: { status?: { conditions?: z.infer<typeof Condition>[] | null | undefined } | null | undefined },
  type: string,
): z.infer<typeof Condition> | undefined {
  return object.status?.conditions?.find(each => each.type === type);
}
