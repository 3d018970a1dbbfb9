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

/** Pods one after the other on one node: from the request that creates one to the event that says Running. */
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
    }
  } finally {
    stream.destroy();
  }
  return [
    {
      what: `pod start: create → Running, ${count} pods, s min / p50 / p90 / max`,
      isthmus: [0, 0.5, 0.9, 1].map(share => (quantile(times, share) / 1e6).toFixed(2)).join(' / '),
      goal: 'as the bridge plugin: 0.48 / 0.49 / 0.51 / 0.80',
      cilium: '0.49 / 0.52 to 1.49 / 1.5 / 1.5',
    },
  ];
}
