import * as z from 'zod';
import type { KubeClient } from '../kube/client.ts';
import { lastWords } from './last-words.ts';

/** One pod of Isthmus, and what keeps it from being ready. */
export interface IsthmusPod {
  readonly name: string;
  readonly namespace: string;
  readonly component: ComponentName;
  /** Empty while it waits for a node. */
  readonly node: string;
  readonly running: boolean;
  readonly ready: boolean;
  readonly images: readonly string[];
  /** Names, those that prepare the pod among them. */
  readonly containers: readonly string[];
  /** Why it does not run, one sentence each; empty when all is well or nothing is known yet. */
  readonly troubles: readonly string[];
  /** How often its containers were started again, and why the last time. */
  readonly restarts: number;
  readonly lastEnd: string | undefined;
}

export const componentNames = ['isthmus-agent', 'isthmus-operator', 'clustermesh-apiserver'] as const;
export type ComponentName = (typeof componentNames)[number];

/** The pods of a release, by the labels that its chart sets. */
export async function isthmusPods(client: KubeClient, namespace: string): Promise<readonly IsthmusPod[]> {
  const query = {
    labelSelector: `app.kubernetes.io/part-of=isthmus,app.kubernetes.io/name in (${componentNames.join(',')})`,
  };
  const { items } = await client.get(`/api/v1/namespaces/${namespace}/pods`, PodList, { query });
  return items.filter(pod => pod.metadata.deletionTimestamp == null).map(toRow);
}

/** The agents among them: one per node. */
export async function agentPods(client: KubeClient, namespace: string): Promise<readonly IsthmusPod[]> {
  return (await isthmusPods(client, namespace)).filter(pod => pod.component === 'isthmus-agent');
}

const Ended = z.object({ exitCode: z.number(), reason: z.string().nullish(), message: z.string().nullish() });
const ContainerStatus = z.object({
  name: z.string(),
  ready: z.boolean(),
  restartCount: z.number(),
  image: z.string(),
  state: z
    .object({
      running: z.object({}).nullish(),
      waiting: z.object({ reason: z.string().nullish(), message: z.string().nullish() }).nullish(),
      terminated: Ended.nullish(),
    })
    .nullish(),
  lastState: z.object({ terminated: Ended.nullish() }).nullish(),
});

const Pod = z.object({
  metadata: z.object({
    name: z.string(),
    namespace: z.string(),
    deletionTimestamp: z.string().nullish(),
    labels: z.object({ 'app.kubernetes.io/name': z.enum(componentNames) }),
  }),
  spec: z.object({
    nodeName: z.string().default(''),
    initContainers: z.array(z.object({ name: z.string() })).nullish(),
    containers: z.array(z.object({ name: z.string(), image: z.string() })),
  }),
  status: z.object({
    conditions: z
      .array(z.object({ type: z.string(), status: z.string(), message: z.string().nullish() }))
      .nullish(),
    initContainerStatuses: z.array(ContainerStatus).nullish(),
    containerStatuses: z.array(ContainerStatus).nullish(),
  }),
});
const PodList = z.object({ items: z.array(Pod) });

function toRow({ metadata, spec, status }: z.infer<typeof Pod>): IsthmusPod {
  const containers = status.containerStatuses ?? [];
  const conditions = status.conditions ?? [];
  const isTrue = (type: string) => conditions.some(each => each.type === type && each.status === 'True');
  const unscheduled = conditions.find(each => each.type === 'PodScheduled' && each.status === 'False');
  const all = [...(status.initContainerStatuses ?? []), ...containers];
  const ends = all.flatMap(each => each.lastState?.terminated ?? []);
  return {
    name: metadata.name,
    namespace: metadata.namespace,
    component: metadata.labels['app.kubernetes.io/name'],
    node: spec.nodeName,
    running: containers.length > 0 && containers.every(each => each.state?.running != null),
    ready: isTrue('Ready'),
    images: spec.containers.map(each => each.image),
    containers: [...(spec.initContainers ?? []), ...spec.containers].map(each => each.name),
    troubles: [
      ...(unscheduled ? [`no node takes it: ${unscheduled.message ?? 'no reason given'}`] : []),
      ...all.flatMap(troubleOf),
    ],
    restarts: all.reduce((sum, each) => sum + each.restartCount, 0),
    lastEnd: ends[0] && endText(ends[0]),
  };
}

function troubleOf({ name, state, lastState }: z.infer<typeof ContainerStatus>): readonly string[] {
  const { waiting, terminated } = state ?? {};
  // On its way: nothing is wrong yet.
  if (waiting && (waiting.reason === 'ContainerCreating' || waiting.reason === 'PodInitializing')) return [];
  if (waiting) {
    const last = lastState?.terminated ? `, last time ${endText(lastState.terminated)}` : '';
    const said = waiting.message && !last ? `: ${waiting.message}` : '';
    return [`container ${name} waits: ${waiting.reason ?? 'no reason given'}${said}${last}`];
  }
  if (terminated && terminated.exitCode !== 0) return [`container ${name} ended with ${endText(terminated)}`];
  return [];
}

function endText({ exitCode, reason, message }: z.infer<typeof Ended>): string {
  const why = reason && reason !== 'Error' ? ` (${reason})` : '';
  const said = lastWords(message ?? '');
  return `exit code ${exitCode}${why}${said ? `: ${said}` : ''}`;
}
