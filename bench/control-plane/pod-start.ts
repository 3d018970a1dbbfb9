import { setTimeout as wait } from 'node:timers/promises';
import * as z from 'zod';
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

/**
 * Pods one after the other on one node: from the request that creates one to the event that says Running.
 *
 * The kubelet looks at its containers once a second and says Running only then. A pod that is created as soon as the
 * one before is gone would always start just after a look and be seen at the next, a second later, however quick it
 * is. So creations are spread evenly over that second: the mean is then the time that a start takes plus half a second.
 */
export async function podStarts(bed: Bed, count: number): Promise<Result[]> {
  const { client, node } = bed.us;
  const { namespace } = bed;
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
  const times: number[] = [];
  try {
    for (let n = 0; n < count; n++) {
      const name = `start-${n}`;
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
          nodeName: node.name,
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
      times.push((await running.promise) - started);
      await client.delete(pathOf(resources.pods, { namespace, name }));
      await gone.promise;
      await wait((1000 * (n + 0.5)) / count);
    }
  } finally {
    stream.destroy();
  }
  const mean = times.reduce((sum, each) => sum + each, 0) / times.length;
  return [
    {
      what: `pod start: create → Running, ${count} pods spread over the kubelet's second, s min / mean / max`,
      isthmus: [quantile(times, 0), mean, quantile(times, 1)]
        .map(time => (time / 1e6).toFixed(2))
        .join(' / '),
      goal: 'as the bridge plugin',
      cilium: '',
    },
  ];
}
