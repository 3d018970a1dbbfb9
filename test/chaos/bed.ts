/** Two joined clusters of three nodes with one global service, and a client in each. */
import { join } from 'node:path';
import * as z from 'zod';
import { kubeFromConfig } from '../../src/kube/client.ts';
import { pathOf, resources, typeOf } from '../../src/kube/resource.ts';
import { parseConfig } from '../../src/lab/config.ts';
import { down, up } from '../../src/lab/lab.ts';
import { executableFolder, type Lab, type LabCluster, openLab } from '../../src/lab/open-lab.ts';
import { run } from '../../src/lab/process.ts';
import { labNames } from '../../src/lab/state.ts';
import { buildLoad, Client, putLoad } from './client.ts';

const namespace = 'chaos';
export const PER_SECOND = 60;

export interface Side {
  readonly cluster: LabCluster;
  /** What the agents of this cluster say of a remote one, by node; undefined where an agent does not answer. */
  states(remote: string): Promise<readonly RemoteState[]>;
  kubectl(...args: readonly string[]): Promise<string>;
  /** Starts requests to the service, from a pod on the node `worker`. */
  client(): Client;
}

export interface Bed extends AsyncDisposable {
  readonly lab: Lab;
  readonly us: Side;
  readonly eu: Side;
}

export interface BedOptions {
  readonly lab: string;
  readonly keep: boolean;
  readonly report: (line: string) => void;
}

/** Makes the lab unless it is there; a lab that was there stays. */
export async function makeBed({ lab: name, keep, report }: BedOptions): Promise<Bed> {
  const there = labNames().includes(name);
  const remove = async (): Promise<void> => {
    if (!there && !keep) await down({ name, report });
  };
  try {
    if (!there) {
      const config = parseConfig([{ path: 'chaos', text: ['us', 'eu'].map(kindDocument).join('\n---\n') }]);
      await up({ name, config, install: true, join: true, images: [], report });
    }
    const lab = openLab(name);
    const load = buildLoad();
    const [us, eu] = await Promise.all(['us', 'eu'].map(each => deploy(lab, lab.cluster(each), load)));
    await moveApiserver(lab.cluster('eu'), report);
    return { lab, us: us!, eu: eu!, [Symbol.asyncDispose]: remove };
  } catch (error) {
    await remove();
    throw error;
  }
}

/** Off the node that is to die: with the only clustermesh-apiserver dies the cluster's voice in the mesh, too. */
async function moveApiserver({ kubectl }: LabCluster, report: (line: string) => void): Promise<void> {
  const of = ['-n', 'kube-system'];
  const pods = ['-l', 'app.kubernetes.io/name=clustermesh-apiserver'];
  const busy = await kubectl(...of, 'get', 'pods', ...pods, '-o', 'jsonpath={.items[*].spec.nodeName}');
  if (!busy.includes('eu-worker2')) return;
  report('clustermesh-apiserver of eu leaves eu-worker2');
  await kubectl('cordon', 'eu-worker2');
  await kubectl(...of, 'delete', 'pods', ...pods);
  await kubectl(...of, 'rollout', 'status', 'deployment/clustermesh-apiserver', '--timeout=120s');
  await kubectl('uncordon', 'eu-worker2');
}

const kindDocument = (name: string): string =>
  JSON.stringify({
    apiVersion: 'kind.x-k8s.io/v1alpha4',
    kind: 'Cluster',
    name,
    nodes: [{ role: 'control-plane' }, { role: 'worker' }, { role: 'worker' }],
  });

/** What an agent says of a remote cluster. */
const remoteState = z.looseObject({ name: z.string(), state: z.string(), status: z.string() });
export type RemoteState = z.infer<typeof remoteState>;
const agentAnswer = z.looseObject({ clusters: z.array(remoteState).default([]) });
const createdService = z.object({ spec: z.object({ clusterIP: z.string() }) });

async function deploy(lab: Lab, cluster: LabCluster, load: Buffer): Promise<Side> {
  const client = kubeFromConfig({ component: 'chaos', kubeconfig: cluster.kubeconfig });
  const { name } = cluster;
  const kubectl = cluster.kubectl;
  await kubectl('delete', 'namespace', namespace, '--ignore-not-found');
  await client.create(pathOf(resources.namespaces), {
    ...typeOf(resources.namespaces),
    metadata: { name: namespace },
  });
  const made = createdService.parse(
    await client.create(pathOf(resources.services, { namespace }), {
      ...typeOf(resources.services),
      metadata: { name: 'web', annotations: { 'service.cilium.io/global': 'true' } },
      spec: { selector: { app: 'web' }, ports: [{ port: 80, targetPort: 8080 }] },
    }),
  );
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
  return {
    cluster,
    kubectl,
    client: () => new Client(exec, made.spec.clusterIP, 80, PER_SECOND),
    states: async remote => {
      const agents = (
        await kubectl('-n', 'kube-system', 'get', 'pods', '-l', 'k8s-app=isthmus', '-o', 'name')
      )
        .trim()
        .split('\n');
      const answers = await Promise.all(
        agents.map(async pod => {
          const [file, ...args] = words(
            ...[
              '-n',
              'kube-system',
              'exec',
              pod,
              '-c',
              'agent',
              '--',
              'isthmus',
              'agent',
              'status',
              '-o',
              'json',
            ],
          );
          const { clusters } = agentAnswer.parse(JSON.parse(await run(file!, args)));
          return clusters.find(each => each.name === remote);
        }),
      );
      return answers.filter(each => each !== undefined);
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
          image: 'registry.k8s.io/e2e-test-images/agnhost:2.57',
          args: ['netexec', '--http-port=8080'],
          readinessProbe: { httpGet: { path: '/healthz', port: 8080 }, periodSeconds: 1 },
        },
      ],
    },
  };
  return kubectl(
    ...['-n', namespace, 'run', name, '--image=registry.k8s.io/e2e-test-images/agnhost:2.57'],
    ...['--labels', `app=${app}`, '--overrides', JSON.stringify(overrides)],
  );
}
