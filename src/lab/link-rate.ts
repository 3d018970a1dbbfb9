import type { Link } from './link.ts';
import type { ClusterPlan, LabPlan } from './plan.ts';
import { run } from './process.ts';
import { rateClass } from './router-rules.ts';

/**
 * Shapes links: on each cluster's bridge one class for each sender of limited rate (a token bucket), which
 * the router's rules put packets into; all other packets pass unshaped.
 */
export async function applyRates(plan: LabPlan, links: readonly Link[]): Promise<void> {
  await Promise.all(plan.clusters.map(cluster => shape(plan, cluster, links)));
}

async function shape(plan: LabPlan, receiver: ClusterPlan, links: readonly Link[]): Promise<void> {
  const tc = (line: string): Promise<string> => run('tc', ['-n', plan.router.namespace, ...line.split(' ')]);
  await tc(`qdisc del dev ${receiver.gatewayDevice} root`).catch(() => 'there was none');
  const limited = links.flatMap(({ between: [a, b], rate }) => {
    if (rate === undefined || (a !== receiver && b !== receiver)) return [];
    return [{ sender: a === receiver ? b : a, rate }];
  });
  if (limited.length === 0) return;
  await tc(`qdisc add dev ${receiver.gatewayDevice} root handle 1: htb default 0`);
  for (const { sender, rate } of limited) {
    const id = rateClass(sender);
    // A bucket holds 4 ms of the rate, and at least one segment of 64 KiB, which goes through whole.
    const burst = Math.max(Math.round(rate / 8 / 250), 66_000);
    await tc(
      `class add dev ${receiver.gatewayDevice} parent 1: classid ${id} htb rate ${Math.round(rate)}bit burst ${burst} cburst ${burst} quantum 60000`,
    );
    // Half a second of queue, as a bloated buffer at a region's edge has.
    const queue = Math.max(Math.round(rate / 8 / 2), 200_000);
    await tc(`qdisc add dev ${receiver.gatewayDevice} parent ${id} bfifo limit ${queue}`);
  }
}
