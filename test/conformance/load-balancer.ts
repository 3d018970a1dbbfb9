/**
 * What a cluster's load balancer addresses need of the network around it: a pool of them, a client that is not in the
 * nodes' own network, and somebody who brings packets to the nodes.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import * as z from 'zod';
import { L2_CLASS } from '../../src/api/load-balancer-service.ts';
import { type KubeClient, kubeFromConfig } from '../../src/kube/client.ts';
import { reflect } from '../../src/kube/reflect.ts';
import { pathOf, resources } from '../../src/kube/resource.ts';
import { ipBatch } from '../../src/lab/network.ts';
import type { Lab, LabCluster } from '../../src/lab/open-lab.ts';
import { addressesOf, type ClusterPlan, loadBalancerRange, subnetsOf } from '../../src/lab/plan.ts';
import { Table } from '../../src/table/table.ts';
import { announcedRange, isIPv6, nextHops, type RoutedService } from './next-hops.ts';

/**
 * router: the lab's router spreads connections over the nodes, as a cloud's load balancer or BGP do.
 * link: nodes answer for addresses on their link (L2 announcement).
 */
export type Announcement = 'router' | 'link';

/** Values that specs of load balancers need: one waits for the finalizer. */
export function loadBalancerValues(by: Announcement): string[] {
  return ['lbipam.cleanupFinalizer=true', `l2announcements.enabled=${by === 'link'}`];
}

/** Makes addresses reachable from outside until the signal aborts; `stopped` tells when nothing runs any more. */
export async function serveAddresses(
  lab: Lab,
  cluster: LabCluster,
  by: Announcement,
  { signal, report }: { readonly signal: AbortSignal; readonly report: (line: string) => void },
): Promise<{ readonly stopped: Promise<void> }> {
  const client = kubeFromConfig({ component: 'conformance', kubeconfig: cluster.kubeconfig });
  await ipBatch(clientOutside(lab, cluster.plan).here);
  await ipBatch(clientOutside(lab, cluster.plan).router, lab.plan.router.namespace);
  await applyPool(client, cluster.plan, by);
  const routing = by === 'router' ? route(lab, cluster.plan, client, { signal, report }) : undefined;
  const stopped = (routing ?? Promise.resolve()).finally(() => client.close());
  // Whoever awaits it later hears of a failure; until then it must not end the program.
  stopped.catch(() => undefined);
  return { stopped };
}

/**
 * This machine's address in the lab is near the nodes' own; specs tell by the prefix whether a node's address stands
 * in for the client's. So it asks from one of TEST-NET-2 (RFC 5737). IPv6 has prefixes of their own already.
 */
function clientOutside(
  lab: Lab,
  cluster: ClusterPlan,
): { readonly here: string[]; readonly router: string[] } {
  const { hostDevice, hostAddress, routerAddress } = lab.plan.router;
  const subnets = subnetsOf(cluster).filter(subnet => !isIPv6(subnet));
  const outside = `198.51.100.${cluster.number}`;
  return {
    here: [
      `addr replace ${outside}/32 dev ${hostDevice}`,
      ...subnets
        .flatMap(subnet => [loadBalancerRange(subnet), announcedRange(subnet)])
        .map(range => `route replace ${range} via ${routerAddress} dev ${hostDevice} src ${outside}`),
    ],
    router: subnets.length > 0 ? [`route replace ${outside}/32 via ${hostAddress}`] : [],
  };
}

async function applyPool(client: KubeClient, cluster: ClusterPlan, by: Announcement): Promise<void> {
  const rangeOf = by === 'router' ? loadBalancerRange : announcedRange;
  await client.apply(pathOf(resources.loadBalancerIPPools, { name: 'conformance' }), {
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumLoadBalancerIPPool',
    metadata: { name: 'conformance' },
    spec: { blocks: subnetsOf(cluster).map(subnet => ({ cidr: rangeOf(subnet) })) },
  });
  await client.apply('/apis/cilium.io/v2alpha1/ciliuml2announcementpolicies/conformance', {
    apiVersion: 'cilium.io/v2alpha1',
    kind: 'CiliumL2AnnouncementPolicy',
    metadata: { name: 'conformance' },
    spec: { loadBalancerIPs: true },
  });
}

const ServiceObject = z.object({
  metadata: z.object({ namespace: z.string(), name: z.string() }),
  spec: z.object({
    type: z.string().default('ClusterIP'),
    loadBalancerClass: z.string().nullish(),
    sessionAffinity: z.string().default('None'),
    healthCheckNodePort: z.int().nullish(),
  }),
  status: z
    .object({
      loadBalancer: z.object({ ingress: z.array(z.object({ ip: z.string() })).nullish() }).nullish(),
    })
    .nullish(),
});

function routedService({ metadata, spec, status }: z.infer<typeof ServiceObject>): RoutedService | undefined {
  const addresses = status?.loadBalancer?.ingress?.map(({ ip }) => ip) ?? [];
  if (spec.type !== 'LoadBalancer' || addresses.length === 0) return undefined;
  if (spec.loadBalancerClass != null && spec.loadBalancerClass !== L2_CLASS) return undefined;
  return {
    key: `${metadata.namespace}/${metadata.name}`,
    addresses,
    healthCheckNodePort: spec.healthCheckNodePort || undefined,
    affinity: spec.sessionAffinity === 'ClientIP',
  };
}

/** Between two questions to a health check port. */
const healthInterval = 500;

/**
 * The router sends connections to any node. Two kinds of service want more: of one with a healthCheckNodePort it sends
 * them to the nodes only that say yes there, and a client of one with session affinity always goes by the same node,
 * because each node remembers its own clients.
 */
async function route(
  lab: Lab,
  cluster: ClusterPlan,
  client: KubeClient,
  { signal, report }: { readonly signal: AbortSignal; readonly report: (line: string) => void },
): Promise<void> {
  const services = new Table<RoutedService>({ name: 'routed services', keyOf: row => row.key });
  const watch = reflect(client, {
    path: pathOf(resources.services),
    schema: ServiceObject,
    table: services,
    toRow: routedService,
    signal,
    onError: error => report(`  services for the router: ${error.message}`),
  });
  const nodes = cluster.nodes.flatMap(addressesOf);
  const { namespace } = lab.plan.router;
  let present = new Map<string, string>();
  while (!signal.aborted) {
    const wanted = new Map(
      (
        await Promise.all(
          [...services.values()].map(async service => {
            const { healthCheckNodePort: port } = service;
            const healthy = port === undefined ? nodes : await whoSaysYes(nodes, port, signal);
            return nextHops(service, healthy);
          }),
        )
      ).flat(),
    );
    const changed = [...wanted].filter(([address, hops]) => present.get(address) !== hops);
    const gone = [...present.keys()].filter(address => !wanted.has(address));
    await ipBatch(
      [
        ...gone.map(address => `route del ${address}`),
        ...changed.map(([address, hops]) =>
          hops === '' ? `route replace unreachable ${address}` : `route replace ${address} ${hops}`,
        ),
      ],
      namespace,
    );
    present = wanted;
    await sleep(healthInterval, undefined, { signal }).catch(() => undefined);
  }
  await ipBatch(
    [...present.keys()].map(address => `route del ${address}`),
    namespace,
    true,
  );
  await watch.done;
}

async function whoSaysYes(nodes: readonly string[], port: number, signal: AbortSignal): Promise<string[]> {
  const answers = await Promise.all(
    nodes.map(async node => {
      const url = `http://${isIPv6(node) ? `[${node}]` : node}:${port}/healthz`;
      const limit = AbortSignal.any([signal, AbortSignal.timeout(2000)]);
      const ok = await fetch(url, { signal: limit }).then(
        response => response.ok,
        () => false,
      );
      return ok ? [node] : [];
    }),
  );
  return answers.flat();
}
