import { setTimeout as wait } from 'node:timers/promises';
import * as z from 'zod';
import type { KubeClient } from '../../src/kube/client.ts';
import { jsonLines } from '../../src/kube/json-lines.ts';
import { pathOf, resources, typeOf } from '../../src/kube/resource.ts';
import { type Bed, now } from './bed.ts';
import { quantile, type Result } from './report.ts';

const event = z.object({
  type: z.string(),
  object: z.object({
    metadata: z.object({ name: z.string() }),
    status: z.object({ phase: z.string() }),
  }),
});

/** Starts pods on one node, one after the other. */
export interface PodStarter extends Disposable {
  /** µs from the request that creates a pod to the event that says Running; resolves when the pod is gone again. */
  start(): Promise<number>;
}

export async function podStarter(
  client: KubeClient,
  namespace: string,
  nodeName: string,
): Promise<PodStarter> {
  const events = new Map<string, (type: string, phase: string) => void>();
  const stream = await client.stream(pathOf(resources.pods, { namespace }), { query: { watch: true } });
  stream.on(
    'data',
    jsonLines(value => {
      const { type, object } = event.parse(value);
      events.get(object.metadata.name)?.(type, object.status.phase);
    }),
  );
  // It is cut off on purpose when all is measured.
  stream.on('error', () => undefined);
  let count = 0;
  return {
    async start() {
      const name = `start-${count++}`;
      const running = Promise.withResolvers<number>();
      const gone = Promise.withResolvers<void>();
      events.set(name, (type, phase) => {
        if (type === 'DELETED') gone.resolve();
        else if (phase === 'Running') running.resolve(now());
      });
      const started = now();
      await client.create(pathOf(resources.pods, { namespace }), {
        ...typeOf(resources.pods),
        metadata: { name },
        spec: {
          nodeName,
          terminationGracePeriodSeconds: 0,
          automountServiceAccountToken: false,
          containers: [
            {
              name: 'pause',
              image: 'registry.k8s.io/e2e-test-images/agnhost:2.57',
              imagePullPolicy: 'Never',
              args: ['pause'],
            },
          ],
        },
      });
      const time = (await running.promise) - started;
      await client.delete(pathOf(resources.pods, { namespace, name }));
      await gone.promise;
      return time;
    },
    [Symbol.dispose]: () => void stream.destroy(),
  };
}

/**
 * Waits before pod `n` of `count`. The kubelet looks at its containers once a second and says Running only then. A pod
 * that is created as soon as the one before is gone would always start just after a look and be seen at the next, a
 * second later, however quick it is. So creations are spread evenly over that second: the mean is then the time that
 * a start takes plus half a second.
 */
export const spreadOverSecond = (n: number, count: number): Promise<void> => wait((1000 * (n + 0.5)) / count);

/** `min / mean / max` of times in µs, as s. */
export function startTimes(times: readonly number[]): string {
  const mean = times.reduce((sum, each) => sum + each, 0) / times.length;
  return [quantile(times, 0), mean, quantile(times, 1)].map(time => (time / 1e6).toFixed(2)).join(' / ');
}

/** Pods on one node of us. `npm run bench:pods` has other plugins beside it. */
export async function podStarts(bed: Bed, count: number): Promise<Result[]> {
  const times: number[] = [];
  using pods = await podStarter(bed.us.client, bed.namespace, bed.us.node.name);
  for (let n = 0; n < count; n++) {
    await spreadOverSecond(n, count);
    times.push(await pods.start());
  }
  return [
    {
      what: `pod start: create → Running, ${count} pods spread over the kubelet's second, s min / mean / max`,
      isthmus: startTimes(times),
      goal: 'as the bridge plugin',
      cilium: '',
    },
  ];
}
