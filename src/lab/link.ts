import type { FaultSpec } from './fault-spec.ts';
import type { ClusterPlan, LabPlan } from './plan.ts';

/** The path between two clusters, as it behaves now. */
export interface Link {
  /** `us-eu` */
  readonly name: string;
  readonly between: readonly [ClusterPlan, ClusterPlan];
  /** TAP device of the relay when the link is slow. */
  readonly device: string;
  /** Milliseconds each way. */
  readonly delay: number | undefined;
  /** Percent. */
  readonly loss: number | undefined;
  /** Bits per second each way. */
  readonly rate: number | undefined;
}

/** All links of a lab: as its configuration says, and the faults in force on top. The last one said wins. */
export function linksOf(plan: LabPlan, faults: readonly FaultSpec[]): Link[] {
  return plan.clusters.flatMap((a, i) =>
    plan.clusters.slice(i + 1).map(b => {
      const name = `${a.name}-${b.name}`;
      const own = plan.links.find(({ between }) => between.includes(a.name) && between.includes(b.name));
      let link: Link = {
        name,
        between: [a, b],
        device: `slow${a.number}-${b.number}`,
        delay: own?.delay,
        loss: own?.loss,
        rate: own?.rate,
      };
      for (const fault of faults) {
        if (!('link' in fault) || fault.link !== name) continue;
        if (fault.kind === 'slow') link = { ...link, delay: fault.milliseconds };
        if (fault.kind === 'lose') link = { ...link, loss: fault.percent };
        if (fault.kind === 'rate') link = { ...link, rate: fault.bitsPerSecond };
      }
      return link;
    }),
  );
}
