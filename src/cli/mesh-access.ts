import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import * as z from 'zod';
import { CiliumNode, nodeRow } from '../api/crds/cilium-node.ts';
import { readAuthority } from '../clustermesh/certificates.ts';
import type { ClaimedRange } from '../clustermesh/overlap.ts';
import type { KeyPair } from '../clustermesh/x509.ts';
import { Failure } from '../failure.ts';
import type { KubeClient } from '../kube/client.ts';
import { ConfigMap, Node } from '../kube/objects.ts';
import { pathOf, resources } from '../kube/resource.ts';
import { isNotFound } from '../kube/status.ts';
import type { ClusterChoice } from './kubeconfig.ts';

/** What the ConfigMap of a cluster says about its place in a mesh. */
export interface MeshIdentity {
  readonly name: string;
  readonly id: number;
  readonly maxClusters: number;
  /** clustermesh-apiserver is part of the installation. */
  readonly apiserver: boolean;
  /** A namespace that does not say is exported. */
  readonly globalByDefault: boolean;
  /** It has a mirror beside it (KVStoreMesh), and agents read that one's copies. */
  readonly mirror: boolean;
}

/** How others reach the mesh etcd of a cluster. */
export interface MeshService {
  readonly type: string;
  /** Addresses, any one is enough. */
  readonly ips: readonly string[];
  readonly port: number;
}

/** Everything that is needed to connect another cluster to this one. */
export interface MeshAccess extends MeshIdentity {
  readonly service: MeshService;
  readonly authority: KeyPair;
  readonly podCidrs: readonly ClaimedRange[];
}

/** @throws Failure when Isthmus is not installed there */
export async function readMeshIdentity(
  client: KubeClient,
  { namespace, context }: ClusterChoice,
): Promise<MeshIdentity> {
  try {
    const path = pathOf(resources.configMaps, { namespace, name: 'isthmus-config' });
    const data = (await client.get(path, ConfigMap)).data ?? {};
    return {
      name: data['cluster-name'] ?? 'default',
      id: Number(data['cluster-id'] ?? 0),
      maxClusters: Number(data['max-connected-clusters'] ?? 255),
      apiserver: data['enable-clustermesh-apiserver'] === 'true',
      globalByDefault: data['clustermesh-default-global-namespace'] !== 'false',
      mirror: data['enable-kvstoremesh'] === 'true',
    };
  } catch (error) {
    if (!isNotFound(error)) throw error;
    throw new Failure(`Isthmus is not installed in namespace ${namespace} of context ${context}`, {
      hint: `install it: isthmus install --context ${context} --set cluster.name=…,cluster.id=…`,
      cause: error,
    });
  }
}

/** Refuses a cluster that has no name and number of its own. */
export function checkMeshIdentity({ name, id, maxClusters }: MeshIdentity, context: string): void {
  if (name !== 'default' && id >= 1 && id <= maxClusters) return;
  throw new Failure(
    `the cluster of context ${context} has name "${name}" and ID ${id}: a cluster of a mesh needs a name of its own and an ID from 1 to ${maxClusters}`,
    { hint: `isthmus upgrade --context ${context} --set cluster.name=…,cluster.id=…` },
  );
}

/** Why access is not there yet, as an error: it may come by itself. */
export class NotYet extends Error {}

/** @throws NotYet when something the cluster is still making is missing, Failure when something is wrong */
export async function readMeshAccess(client: KubeClient, cluster: ClusterChoice): Promise<MeshAccess> {
  const { namespace, context } = cluster;
  const identity = await readMeshIdentity(client, cluster);
  checkMeshIdentity(identity, context);
  if (!identity.apiserver)
    throw new Failure(`clustermesh is not enabled in the cluster of context ${context}`, {
      hint: `isthmus clustermesh enable --context ${context}`,
    });
  const service = await readMeshService(client, cluster);
  const authority = await readAuthority(client, namespace).catch((error: unknown) => {
    throw new NotYet(error instanceof Error ? error.message : String(error));
  });
  const { items } = await client.get(pathOf(resources.ciliumNodes), z.object({ items: z.array(CiliumNode) }));
  const podCidrs = items
    .map(nodeRow)
    .flatMap(node => node.podCidrs.map(cidr => ({ cluster: identity.name, node: node.name, cidr })));
  return { ...identity, service, authority, podCidrs };
}

const Service = z.object({
  spec: z.object({
    type: z.string(),
    clusterIP: z.string().nullish(),
    ports: z.array(z.object({ port: z.number(), nodePort: z.number().nullish() })),
  }),
  status: z
    .object({
      loadBalancer: z
        .object({
          ingress: z.array(z.object({ ip: z.string().nullish(), hostname: z.string().nullish() })).nullish(),
        })
        .nullish(),
    })
    .nullish(),
});

/** Most addresses of nodes that are handed out: with so many one is always there, and the list stays readable. */
const nodesListed = 8;

/** @throws NotYet while the Service or its address is not there */
export async function readMeshService(
  client: KubeClient,
  { namespace, context }: ClusterChoice,
): Promise<MeshService> {
  const path = pathOf(resources.services, { namespace, name: 'clustermesh-apiserver' });
  const { spec, status } = await client.get(path, Service).catch((error: unknown) => {
    throw isNotFound(error) ? new NotYet(`Service ${namespace}/clustermesh-apiserver is not there`) : error;
  });
  const [port] = spec.ports;
  if (spec.type === 'NodePort') {
    if (!port?.nodePort) throw new NotYet('Service clustermesh-apiserver has no node port yet');
    const { items } = await client.get(pathOf(resources.nodes), z.object({ items: z.array(Node) }));
    const ips = items.flatMap(nodeIp).slice(0, nodesListed);
    if (!ips.length) throw new NotYet('no node has an address');
    return { type: spec.type, ips, port: port.nodePort };
  }
  if (spec.type === 'LoadBalancer') {
    const given = status?.loadBalancer?.ingress ?? [];
    const ips = await Promise.all(
      given.map(each => (each.ip ? [each.ip] : addressesOf(each.hostname ?? ''))),
    );
    if (!ips.flat().length)
      throw new NotYet('Service clustermesh-apiserver has no load balancer address yet');
    return { type: spec.type, ips: ips.flat(), port: port?.port ?? 2379 };
  }
  throw new Failure(
    `Service clustermesh-apiserver of context ${context} has type ${spec.type}: others cannot reach it`,
    {
      hint: `isthmus clustermesh enable --context ${context} --service-type NodePort, or give --destination-endpoint`,
    },
  );
}

function nodeIp(node: Node): string[] {
  const addresses = node.status?.addresses ?? [];
  const found = ['InternalIP', 'ExternalIP']
    .map(type => addresses.find(each => each.type === type))
    .find(each => each !== undefined);
  return found ? [found.address] : [];
}

async function addressesOf(hostname: string): Promise<string[]> {
  if (isIP(hostname) || hostname === '') return hostname ? [hostname] : [];
  try {
    return (await lookup(hostname, { all: true })).map(each => each.address);
  } catch {
    return [];
  }
}
