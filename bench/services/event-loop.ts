/** How long the agent's tasks hold its event loop, and how long CNI calls wait meanwhile. */
import { copyFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { Failure } from '../../src/failure.ts';
import { pathOf, resources, typeOf } from '../../src/kube/resource.ts';
import { initProcess } from '../../src/lab/node.ts';
import { samplesOf } from './agent.ts';
import type { Bed } from './bed.ts';

/** Milliseconds of processor time between two visits to a timer of 2 ms. */
export const TASK_LIMIT = 20 + 2;

export interface LoopReport {
  /** Milliseconds of processor time. */
  readonly longest: number;
  /** Visits after more than {@link TASK_LIMIT}, of all. */
  readonly late: number;
  readonly visits: number;
  /** Each of those, and of how many milliseconds of the clock the heap was collected in so many: '31 in 35 (28)'. */
  readonly tasks: string;
}

const Report = z.object({
  /** Milliseconds → visits. */
  seen: z.record(z.string(), z.number()),
  late: z.array(
    z.object({ milliseconds: z.number(), from: z.number(), to: z.number(), collected: z.number() }),
  ),
});

/** Gives the agent the probe, which starts again at SIGUSR2; what is returned reads what it saw. */
export async function installProbe({ lab, cluster, node }: Bed): Promise<() => LoopReport> {
  const pid = initProcess(lab.layout, node);
  if (pid === undefined) throw new Failure(`node ${node.name} is down`);
  const folder = `/proc/${pid}/root/run/isthmus`;
  copyFileSync(join(import.meta.dirname, 'loop-probe.mjs'), join(folder, 'loop-probe.mjs'));
  const kubectl = (...words: readonly string[]): Promise<string> =>
    cluster.kubectl('-n', 'kube-system', ...words);
  const daemonSet = 'daemonset/isthmus';
  await kubectl('set', 'env', daemonSet, 'NODE_OPTIONS=--import=/run/isthmus/loop-probe.mjs');
  await kubectl('rollout', 'status', daemonSet, '--timeout=120s');
  return () => {
    const { seen, late: tasks } = Report.parse(
      JSON.parse(readFileSync(join(folder, 'loop-probe.json'), 'utf8')),
    );
    let [longest, late, visits] = [0, 0, 0];
    for (const [milliseconds, count] of Object.entries(seen)) {
      longest = Math.max(longest, Number(milliseconds));
      visits += count;
      if (Number(milliseconds) > TASK_LIMIT) late += count;
    }
    const texts = tasks.map(
      ({ milliseconds, collected, from, to }) =>
        `${milliseconds} in ${(to - from).toFixed(0)} (${collected.toFixed(0)})`,
    );
    return { longest, late, visits, tasks: texts.join(', ') };
  };
}

export async function startPod({ client, namespace, node }: Bed, name: string): Promise<void> {
  await client.create(pathOf(resources.pods, { namespace }), {
    ...typeOf(resources.pods),
    metadata: { name },
    spec: {
      nodeName: node.name,
      terminationGracePeriodSeconds: 0,
      automountServiceAccountToken: false,
      containers: [
        {
          name: 'c',
          image: 'registry.k8s.io/e2e-test-images/agnhost:2.57',
          imagePullPolicy: 'IfNotPresent',
          args: ['pause'],
        },
      ],
    },
  });
}

/** The smallest bucket, in seconds, that holds every successful ADD since then. */
export function slowestAdd(before: string, after: string): number {
  const count = (text: string, bucket: string): number => {
    for (const [labels, value] of samplesOf(text, 'isthmus_cni_call_duration_seconds_bucket'))
      if (
        labels.includes(`le="${bucket}"`) &&
        labels.includes('command="ADD"') &&
        labels.includes('code="0"')
      )
        return value;
    return 0;
  };
  const since = (bucket: string): number => count(after, bucket) - count(before, bucket);
  const all = since('+Inf');
  if (all === 0) throw new Error('no pod was added');
  for (const bucket of ['0.005', '0.01', '0.02', '0.05', '0.1', '0.2', '0.5', '1', '2', '5', '10'])
    if (since(bucket) === all) return Number(bucket);
  return Number.POSITIVE_INFINITY;
}
