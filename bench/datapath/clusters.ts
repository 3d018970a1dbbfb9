/** Pods and services of one network under test. */
import { join } from 'node:path';
import * as z from 'zod';
import { kubeFromConfig } from '../../src/kube/client.ts';
import { pathOf, resources, typeOf } from '../../src/kube/resource.ts';
import { executableFolder, type Lab, type LabCluster } from '../../src/lab/open-lab.ts';
import { run } from '../../src/lab/process.ts';
import { firstFree } from '../services/crowd.ts';
import { fill } from '../services/fill.ts';
import { awaitServer, type Place, type Ports, ports } from './load.ts';

const namespace = 'bench';
const probe = '/tmp/probe';

export interface Pod {
  readonly place: Place;
  readonly address: string;
  readonly uid: string;
}

/** Two clusters that are joined with each other, and the pods that everything is measured between. */
export interface Network {
  readonly client: Pod;
  /** On the client's node. */
  readonly near: Pod;
  /** On the other node of the cluster. */
  readonly far: Pod;
  /** In the other cluster. */
  readonly away: Pod;
  /** ClusterIP of a service of the far pod. */
  readonly service: string;
  /** Adds services of one backend each; resolves when the client's node serves all of them. */
  addServices(count: number): Promise<void>;
}

/** Starts the pods in a cluster of two nodes, and one in the cluster that it is joined with. */
export async function deploy(lab: Lab, home: string, abroad: string, probeFile: string): Promise<Network> {
  const here = openNamespace(lab, lab.cluster(home));
  const there = openNamespace(lab, lab.cluster(abroad));
  const [first, second] = lab.cluster(home).plan.nodes.map(({ name }) => name);
  await Promise.all([here.create(), there.create()]);
  const [client, near, far, away] = await Promise.all([
    here.startPod('client', second!, probeFile),
    here.startPod('near', second!, probeFile),
    here.startPod('far', first!, probeFile),
    there.startPod('away', lab.cluster(abroad).plan.nodes[0]!.name, probeFile),
  ]);
  const service = await here.createService('far', far.address);
  return {
    client,
    near,
    far,
    away,
    service,
    async addServices(count) {
      const cluster = lab.cluster(home);
      const first = firstFree(cluster.plan.serviceSubnet, await here.clusterIps(), count);
      await fill(lab, cluster, { namespace, prefix: 'many', services: count, endpoints: count, first });
      // Made after all others, it is served after them.
      const last = await here.createService('last', far.address);
      await awaitServer(client.place, { address: last, ports }, 300_000);
    },
  };
}

const createdService = z.object({
  spec: z.object({
    clusterIP: z.string(),
    ports: z.array(z.object({ name: z.string(), nodePort: z.number().optional() })),
  }),
});

export function openNamespace(lab: Lab, cluster: LabCluster) {
  const client = kubeFromConfig({ component: 'bench', kubeconfig: cluster.kubeconfig });
  const words = (...args: readonly string[]): string[] => [
    join(executableFolder(lab.plan.name), 'kubectl'),
    ...['--kubeconfig', cluster.kubeconfig, '-n', namespace],
    ...args,
  ];
  const kubectl = (...args: readonly string[]): Promise<string> => {
    const [command, ...rest] = words(...args);
    return run(command!, rest);
  };
  const createService = async (
    name: string,
    address: string,
    tcpPorts: readonly { readonly name: string; readonly port: number }[],
    { type = 'ClusterIP', annotations = {} as Readonly<Record<string, string>> } = {},
  ) => {
    const servicePorts = tcpPorts.map(each => ({ ...each, protocol: 'TCP' }));
    const made = await client.create(pathOf(resources.services, { namespace }), {
      ...typeOf(resources.services),
      metadata: { name, annotations },
      spec: { type, ports: servicePorts },
    });
    await client.create(pathOf(resources.endpointSlices, { namespace }), {
      ...typeOf(resources.endpointSlices),
      metadata: { name, labels: { 'kubernetes.io/service-name': name } },
      addressType: 'IPv4',
      endpoints: [{ addresses: [address], conditions: { ready: true } }],
      ports: servicePorts,
    });
    return createdService.parse(made).spec;
  };
  return {
    async create(): Promise<void> {
      await kubectl('delete', 'namespace', namespace, '--ignore-not-found');
      await client.create(pathOf(resources.namespaces), {
        ...typeOf(resources.namespaces),
        metadata: { name: namespace },
      });
    },
    /** A pod on this node, whichever taints it has, with the probe in it. */
    async startPod(name: string, nodeName: string, probeFile: string): Promise<Pod> {
      await client.create(pathOf(resources.pods, { namespace }), {
        ...typeOf(resources.pods),
        metadata: { name },
        spec: {
          nodeName,
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
      await kubectl('wait', '--for=condition=Ready', '--timeout=120s', `pod/${name}`);
      await kubectl('cp', probeFile, `${name}:${probe}`);
      return {
        place: { prefix: words('exec', '-i', name, '--'), probe },
        address: await kubectl('get', 'pod', name, '-o', 'jsonpath={.status.podIP}'),
        uid: await kubectl('get', 'pod', name, '-o', 'jsonpath={.metadata.uid}'),
      };
    },
    /** A service on the echo ports whose one endpoint is written by hand; gives its ClusterIP. */
    async createService(name: string, address: string): Promise<string> {
      const echo = Object.entries(ports.echo).map(([cores, port]) => ({ name: cores, port }));
      return (await createService(name, address, echo)).clusterIP;
    },
    /** One on all ports that nodes serve; gives its NodePorts. */
    async createNodePort(
      name: string,
      address: string,
      annotations: Readonly<Record<string, string>>,
    ): Promise<Ports> {
      const all = Object.entries(ports).flatMap(([kind, of]) =>
        Object.entries(of).map(([cores, port]) => ({ name: `${kind}-${cores}`, port: port as number })),
      );
      const made = await createService(name, address, all, { type: 'NodePort', annotations });
      const port = (of: string): number => made.ports.find(each => each.name === of)!.nodePort!;
      return { echo: { one: port('echo-one'), two: port('echo-two') }, sink: { two: port('sink-two') } };
    },
    /** Of all services of the cluster. */
    async clusterIps(): Promise<string[]> {
      const all = ['get', 'services', '-A', '-o', 'jsonpath={.items[*].spec.clusterIP}'];
      return (await kubectl(...all)).split(' ');
    },
    close: () => client.close(),
  };
}
