import { setTimeout as pause } from 'node:timers/promises';
import * as z from 'zod';
import type { KubeClient } from '../kube/client.ts';
import { pathOf, resources, typeOf } from '../kube/resource.ts';
import { isNotFound } from '../kube/status.ts';
import { type ClusterChoice, clientOf } from './kubeconfig.ts';
import { lastWords } from './last-words.ts';

/** What is taken over from the agents' pods, so that a chart's own paths, image and pull secrets hold. */
const Template = z.object({
  spec: z.object({
    template: z.object({
      spec: z.object({
        imagePullSecrets: z.array(z.looseObject({})).nullish(),
        priorityClassName: z.string().nullish(),
        containers: z.array(
          z.object({
            name: z.string(),
            image: z.string(),
            imagePullPolicy: z.string().nullish(),
            securityContext: z.looseObject({}).nullish(),
            volumeMounts: z.array(z.looseObject({ name: z.string(), mountPath: z.string() })).default([]),
          }),
        ),
        volumes: z.array(z.looseObject({ name: z.string() })).default([]),
      }),
    }),
  }),
});
export type AgentTemplate = z.infer<typeof Template>['spec']['template']['spec'];

/** How the agents' pods are made; undefined where there is no DaemonSet. */
export async function readAgentTemplate(cluster: ClusterChoice): Promise<AgentTemplate | undefined> {
  const client = clientOf(cluster);
  try {
    const path = `/apis/apps/v1/namespaces/${cluster.namespace}/daemonsets/isthmus`;
    return (await client.get(path, Template)).spec.template.spec;
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  } finally {
    client.close();
  }
}

/**
 * A pod that takes one node back to what it was before, without an agent and without the API server's help: on the
 * node's network, with the agent's folders of the node. It needs nothing of the release, which is gone by then.
 */
export function cleanPod(template: AgentTemplate, node: string, namespace: string): object {
  const agent = template.containers.find(each => each.name === 'agent') ?? template.containers[0]!;
  const volumes = template.volumes.filter(each => 'hostPath' in each || 'emptyDir' in each);
  const kept = new Set(volumes.map(each => each.name));
  const mounts = agent.volumeMounts.filter(each => kept.has(each.name));
  const bpffs = mounts.find(each => each.name === 'bpffs')?.mountPath ?? '/sys/fs/bpf';
  return {
    ...typeOf(resources.pods),
    metadata: {
      name: podName(node),
      namespace,
      labels: { 'app.kubernetes.io/name': 'isthmus-clean-node', 'app.kubernetes.io/part-of': 'isthmus' },
    },
    spec: {
      nodeName: node,
      hostNetwork: true,
      dnsPolicy: 'Default',
      restartPolicy: 'Never',
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      terminationGracePeriodSeconds: 0,
      tolerations: [{ operator: 'Exists' }],
      ...(template.imagePullSecrets ? { imagePullSecrets: template.imagePullSecrets } : {}),
      ...(template.priorityClassName ? { priorityClassName: template.priorityClassName } : {}),
      containers: [
        {
          name: 'clean',
          image: agent.image,
          imagePullPolicy: agent.imagePullPolicy ?? 'IfNotPresent',
          command: ['isthmus', 'agent', 'cleanup', '--without-agent', '--bpf-root', bpffs],
          securityContext: agent.securityContext ?? {},
          terminationMessagePolicy: 'FallbackToLogsOnError',
          volumeMounts: mounts,
        },
      ],
      volumes,
    },
  };
}

const podName = (node: string): string => `isthmus-clean-${node}`;

const State = z.object({
  status: z.object({
    phase: z.string().default('Pending'),
    message: z.string().nullish(),
    containerStatuses: z
      .array(
        z.object({
          state: z.object({
            waiting: z.object({ reason: z.string().nullish(), message: z.string().nullish() }).nullish(),
            terminated: z.object({ message: z.string().nullish() }).nullish(),
          }),
        }),
      )
      .nullish(),
  }),
});

/** Runs the pod to its end and removes it. Resolves to why the node is not clean; undefined: it is. */
export async function runCleanPod(
  client: KubeClient,
  template: AgentTemplate,
  node: string,
  options: {
    readonly namespace: string;
    readonly signal?: AbortSignal | undefined;
    readonly patience?: number;
  },
): Promise<string | undefined> {
  const { namespace, signal, patience = 60_000 } = options;
  const path = pathOf(resources.pods, { namespace, name: podName(node) });
  await client.create(pathOf(resources.pods, { namespace }), cleanPod(template, node, namespace));
  const end = performance.now() + patience;
  try {
    for (;;) {
      signal?.throwIfAborted();
      const { status } = await client.get(path, State);
      const state = status.containerStatuses?.[0]?.state;
      if (status.phase === 'Succeeded') return undefined;
      if (status.phase === 'Failed')
        return lastWords(state?.terminated?.message ?? status.message ?? '') || 'the clean-up there failed';
      if (performance.now() > end)
        return `the clean-up there has not ended after ${patience / 1000} s: ${state?.waiting?.message ?? state?.waiting?.reason ?? status.phase}`;
      await pause(300);
    }
  } finally {
    await client.delete(path, { query: { gracePeriodSeconds: 0 } });
  }
}
