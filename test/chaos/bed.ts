/** Two joined clusters of three nodes with global services, and clients in each. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { kubeFromConfig } from '../../src/kube/client.ts';
import { pathOf, resources, typeOf } from '../../src/kube/resource.ts';
import { defaultConfig } from '../../src/lab/config.ts';
import { down, up } from '../../src/lab/lab.ts';
import { nodeRoot } from '../../src/lab/node-disk.ts';
import {
  commandOnNode,
  executableFolder,
  type Lab,
  type LabCluster,
  openLab,
} from '../../src/lab/open-lab.ts';
import { ownCommand } from '../../src/lab/own-command.ts';
import { run } from '../../src/lab/process.ts';
import { labNames } from '../../src/lab/state.ts';
import { buildLoad, Client, LOSSY_PATIENCE, loadInPod, PATIENCE, putLoad } from './client.ts';

export const namespace = 'chaos';
export const PER_SECOND = 60;
const image = 'registry.k8s.io/e2e-test-images/agnhost:2.57';

/**
 * `web` has a backend on each worker of both clusters. `mark` has those pods that carry the label mark=on: what becomes
 * of a change is seen by who answers. `rolling` has the pods of Deployments that scenarios make.
 */
const services = { web: { app: 'web' }, mark: { mark: 'on' }, rolling: { app: 'rolling' } };
export type ServiceName = keyof typeof services;

export interface Side {
  readonly cluster: LabCluster;
  /** What the agents of this cluster say of a remote one, by node; undefined where an agent does not answer. */
  states(remote: string): Promise<readonly RemoteState[]>;
  kubectl(...args: readonly string[]): Promise<string>;
  apply(object: object): Promise<unknown>;
  /** Makes a backend of `web`, anew where somebody has deleted it; resolves when it is Ready. */
  startBackend(name: string, node: string): Promise<void>;
  /** Starts requests to a service, from a pod on the node `worker`. */
  client(service?: ServiceName, perSecond?: number): Client;
  /** The same from the node itself, which nobody needs an API server for. */
  nodeClient(): Client;
  /** What the command `isthmus …` says in each agent of this cluster. */
  agents(...command: readonly string[]): Promise<readonly string[]>;
}

export interface Bed extends AsyncDisposable {
  readonly lab: Lab;
  /** Milliseconds that a request may take. */
  readonly patience: number;
  readonly us: Side;
  readonly eu: Side;
}

export interface BedOptions {
  readonly lab: string;
  readonly keep: boolean;
  /** How the way between the clusters behaves, each way, in a lab that is to be made: milliseconds, and percent lost. */
  readonly delay: number | undefined;
  readonly loss: number | undefined;
  /** Both clusters read the other through a mirror of their own. */
  readonly mirror: boolean;
  readonly report: (line: string) => void;
}

/** Makes the lab unless it is there; a lab that was there stays. */
export async function makeBed(options: BedOptions): Promise<Bed> {
  const { lab: name, keep, delay, loss, mirror, report } = options;
  const there = labNames().includes(name);
  if (there && (delay || loss))
    throw new Error(`lab ${name} is up: how its link behaves is said when it is made`);
  const patience = loss ? LOSSY_PATIENCE : PATIENCE;
  const remove = async (): Promise<void> => {
    if (!there && !keep) await down({ name, report });
  };
  try {
    if (!there) {
      const link = { between: ['us', 'eu'], delay, loss, rate: undefined } as const;
      const config = { ...defaultConfig(), links: delay || loss ? [link] : [] };
      await up({ name, config, install: true, join: true, report });
    }
    const lab = openLab(name);
    const load = buildLoad();
    if (mirror) for (const each of ['us', 'eu']) await enableMirror(lab.cluster(each));
    const [us, eu] = await Promise.all(
      ['us', 'eu'].map(each => deploy(lab, lab.cluster(each), load, patience)),
    );
    await moveApiserver(lab.cluster('eu'), 'eu-worker');
    return { lab, patience, us: us!, eu: eu!, [Symbol.asyncDispose]: remove };
  } catch (error) {
    await remove();
    throw error;
  }
}

/** With the only clustermesh-apiserver dies a cluster's voice in the mesh: where it runs is part of the question. */
export async function moveApiserver({ kubectl, plan }: LabCluster, to: string): Promise<void> {
  const of = ['-n', 'kube-system'];
  const pods = ['-l', 'app.kubernetes.io/name=clustermesh-apiserver'];
  const found = await kubectl(...of, 'get', 'pods', ...pods, '-o', 'jsonpath={.items[*].spec.nodeName}');
  if (found.trim() === to) return;
  const others = plan.nodes.map(({ name }) => name).filter(name => name !== to);
  await kubectl('cordon', ...others);
  await kubectl(...of, 'delete', 'pods', ...pods);
  await kubectl(...of, 'rollout', 'status', 'deployment/clustermesh-apiserver', '--timeout=120s');
  await kubectl('uncordon', ...others);
}

async function enableMirror({ context, kubectl }: LabCluster): Promise<void> {
  const [file, ...args] = ownCommand('clustermesh', 'enable', '--context', context, '--enable-kvstoremesh');
  await run(file, args);
  const of = ['-n', 'kube-system'];
  await kubectl(...of, 'rollout', 'status', 'deployment/clustermesh-apiserver', '--timeout=180s');
}

/** What an agent says of a remote cluster. */
const remoteState = z.looseObject({
  name: z.string(),
  state: z.string(),
  status: z.string(),
  warnings: z.array(z.string()).default([]),
});
export type RemoteState = z.infer<typeof remoteState>;
const agentAnswer = z.looseObject({ clusters: z.array(remoteState).default([]) });
const createdService = z.object({ spec: z.object({ clusterIP: z.string() }) });

async function deploy(lab: Lab, cluster: LabCluster, load: Buffer, patience: number): Promise<Side> {
  const client = kubeFromConfig({ component: 'chaos', kubeconfig: cluster.kubeconfig });
  const { name } = cluster;
  const kubectl = cluster.kubectl;
  await kubectl('delete', 'namespace', namespace, '--ignore-not-found');
  await client.create(pathOf(resources.namespaces), {
    ...typeOf(resources.namespaces),
    metadata: { name: namespace },
  });
  const addresses = {} as Record<ServiceName, string>;
  for (const [service, selector] of Object.entries(services)) {
    const made = await client.create(pathOf(resources.services, { namespace }), {
      ...typeOf(resources.services),
      metadata: { name: service, annotations: { 'service.cilium.io/global': 'true' } },
      spec: { selector, ports: [{ port: 80, targetPort: 8080 }] },
    });
    addresses[service as ServiceName] = createdService.parse(made).spec.clusterIP;
  }
  // Both clusters have a backend on each worker; the clients are on the node `worker`, faults are for `worker2`.
  const pods = [
    { name: 'client', node: `${name}-worker`, app: 'client' },
    { name: `${name}-one`, node: `${name}-worker`, app: 'web' },
    { name: `${name}-two`, node: `${name}-worker2`, app: 'web' },
  ];
  for (const pod of pods) await startPod(kubectl, pod);
  await kubectl('-n', namespace, 'wait', '--for=condition=Ready', '--timeout=180s', 'pod', '--all');
  client.close();
  const words = (...args: readonly string[]): string[] => [
    join(executableFolder(lab.plan.name), 'kubectl'),
    ...['--kubeconfig', cluster.kubeconfig, ...args],
  ];
  const exec = words('-n', namespace, 'exec', '-i', 'client', '--');
  await putLoad(cluster, exec, load);
  const [, worker] = cluster.plan.nodes;
  writeFileSync(join(nodeRoot(worker!), 'root/load'), load, { mode: 0o755 });
  const agents = async (...command: readonly string[]): Promise<string[]> => {
    const pods = await kubectl('-n', 'kube-system', 'get', 'pods', '-l', 'k8s-app=isthmus', '-o', 'name');
    return Promise.all(
      pods
        .trim()
        .split('\n')
        .map(pod => kubectl('-n', 'kube-system', 'exec', pod, '-c', 'agent', '--', 'isthmus', ...command)),
    );
  };
  return {
    cluster,
    kubectl,
    agents,
    startBackend: async (pod, node) => {
      await startPod(kubectl, { name: pod, node, app: 'web' });
      await kubectl('-n', namespace, 'wait', '--for=condition=Ready', '--timeout=180s', 'pod', pod);
    },
    apply: object => {
      const [file, ...args] = words('apply', '--server-side', '--force-conflicts', '-f', '-');
      return run(file!, args, { input: JSON.stringify(object) });
    },
    client: (service = 'web', perSecond = PER_SECOND) =>
      new Client([...exec, loadInPod], addresses[service], 80, perSecond, patience),
    nodeClient: () =>
      new Client(commandOnNode(lab.layout, worker!, ['/root/load']), addresses.web, 80, PER_SECOND, patience),
    states: async remote => {
      const answers = await agents('agent', 'status', '-o', 'json');
      return answers.flatMap(
        text => agentAnswer.parse(JSON.parse(text)).clusters.find(each => each.name === remote) ?? [],
      );
    },
  };
}

function startPod(
  kubectl: LabCluster['kubectl'],
  { name, node, app }: { readonly name: string; readonly node: string; readonly app: string },
): Promise<string> {
  const overrides = {
    spec: {
      nodeName: node,
      terminationGracePeriodSeconds: 1,
      // A node that is not heard loses its pods after five minutes: longer than any fault here.
      containers: [
        {
          name,
          image,
          args: ['netexec', '--http-port=8080'],
          readinessProbe: { httpGet: { path: '/healthz', port: 8080 }, periodSeconds: 1 },
        },
      ],
    },
  };
  return kubectl(
    ...['-n', namespace, 'run', name, `--image=${image}`],
    ...['--labels', `app=${app}`, '--overrides', JSON.stringify(overrides)],
  );
}

/**
 * A Deployment behind the service `rolling` whose pods go on serving for three seconds after they are told to end, as
 * any server behind any load balancer has to. Where one is to be greeted, an address as `10.1.0.7:8080`, each pod connects
 * to it as the first thing it does.
 */
export function rollingDeployment(replicas: number, greeted?: string): object {
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'rolling', namespace },
    spec: {
      replicas,
      selector: { matchLabels: services.rolling },
      strategy: { rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
      template: {
        metadata: { labels: services.rolling },
        spec: {
          terminationGracePeriodSeconds: 10,
          initContainers: greeted
            ? [{ name: 'greet', image, args: ['connect', greeted, '--timeout=5s'] }]
            : [],
          containers: [
            {
              name: 'web',
              image,
              args: ['netexec', '--http-port=8080'],
              lifecycle: { preStop: { sleep: { seconds: 3 } } },
              readinessProbe: { httpGet: { path: '/healthz', port: 8080 }, periodSeconds: 1 },
            },
          ],
        },
      },
    },
  };
}
