import * as z from 'zod';

/** How far a Deployment or DaemonSet is, in numbers of pods. */
export interface Rollout {
  /** The controller has seen the newest object; until then the numbers are about the one before. */
  readonly observed: boolean;
  readonly desired: number;
  readonly ready: number;
  readonly available: number;
  readonly unavailable: number;
  /** Pods of the newest configuration and image. */
  readonly updated: number;
  /** Pods of an older one that have not been told to end: a Deployment's new pods come beside them. */
  readonly outdated: number;
}

/** What is read of a Deployment or a DaemonSet. */
export const Workload = z.object({
  metadata: z.object({ generation: z.number(), labels: z.record(z.string(), z.string()).nullish() }),
  spec: z.object({ replicas: z.number().optional() }),
  status: z.object({
    observedGeneration: z.number().default(0),
    // A DaemonSet's words.
    desiredNumberScheduled: z.number().default(0),
    numberReady: z.number().default(0),
    numberAvailable: z.number().default(0),
    updatedNumberScheduled: z.number().default(0),
    // A Deployment's.
    replicas: z.number().default(0),
    readyReplicas: z.number().default(0),
    availableReplicas: z.number().default(0),
    updatedReplicas: z.number().default(0),
  }),
});

export function rolloutOf(
  kind: 'DaemonSet' | 'Deployment',
  { metadata, spec, status }: z.infer<typeof Workload>,
): Rollout {
  const daemonSet = kind === 'DaemonSet';
  const desired = daemonSet ? status.desiredNumberScheduled : (spec.replicas ?? 1);
  const available = daemonSet ? status.numberAvailable : status.availableReplicas;
  const observed = status.observedGeneration >= metadata.generation;
  const updated = observed ? (daemonSet ? status.updatedNumberScheduled : status.updatedReplicas) : 0;
  return {
    observed,
    desired,
    ready: daemonSet ? status.numberReady : status.readyReplicas,
    available,
    unavailable: Math.max(0, desired - available),
    updated,
    outdated: Math.max(0, (daemonSet ? desired : status.replicas) - updated),
  };
}

export function isComplete({ desired, ready, updated, available, outdated }: Rollout): boolean {
  const all = ready === desired && available === desired && updated === desired;
  // While old pods are there, it may be they that are ready.
  return desired > 0 && all && outdated === 0;
}
