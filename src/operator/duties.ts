import { setTimeout as sleep } from 'node:timers/promises';
import { CiliumEndpoint, type EndpointObjectRow, endpointObjectRow } from '../api/crds/cilium-endpoint.ts';
import { CiliumNode, type NodeRow, nodeRow } from '../api/crds/cilium-node.ts';
import { allocationRange } from '../api/identity-number.ts';
import { keepCertificates } from '../clustermesh/certificates.ts';
import { identitiesTable, reflectIdentities } from '../identity/identities.ts';
import type { KubeClient } from '../kube/client.ts';
import { EventRecorder } from '../kube/events.ts';
import { AnyObject, Node, Pod } from '../kube/objects.ts';
import { type BadObject, type Reflection, reflect } from '../kube/reflect.ts';
import { pathOf, resources } from '../kube/resource.ts';
import { logOf } from '../log.ts';
import { Reconciler } from '../table/reconciler.ts';
import { Table } from '../table/table.ts';
import { collectIdentities, endpointCollector, nodeCollector, type Round } from './collect.ts';
import type { OperatorConfig } from './config.ts';
import { installDefinitions } from './crds.ts';
import type { LivePod } from './garbage.ts';
import { assignLoadBalancerAddresses } from './load-balancer-addresses.ts';
import { runMesh } from './mesh.ts';
import {
  agentPodRow,
  agentPodsTable,
  deriveNodeFixes,
  nodeFixTarget,
  nodeStateRow,
  nodeStatesTable,
} from './node-readiness.ts';

export interface DutyOptions {
  readonly client: KubeClient;
  readonly config: OperatorConfig;
  /** Where the agents' pods are. */
  readonly namespace: string;
  /** Ends the term. */
  readonly signal: AbortSignal;
  readonly onCollected?: (kind: string, count: number) => void;
}

const log = logOf('duties');

/**
 * All cluster-wide duties of one term: definitions first, because agents wait for them; then nodes are put
 * right as their agents become ready, and what is left over is collected. Resolves when the term ends;
 * rejects when a definition is refused.
 */
export async function runDuties(options: DutyOptions): Promise<void> {
  const { client, config, signal } = options;
  const watches: Reflection[] = [];
  const report = (path: string) => ({
    signal,
    onBad: ({ object, error }: BadObject) => log.warn({ path, object, error }, 'object ignored'),
    onError: (error: Error, delay: number) => log.warn({ path, error, delay: Math.round(delay) }, 'watch'),
  });

  const nodes = nodeStatesTable();
  const agents = agentPodsTable();
  const nodesPath = pathOf(resources.nodes);
  watches.push(
    reflect(client, {
      path: nodesPath,
      schema: Node,
      table: nodes,
      toRow: nodeStateRow,
      ...report(nodesPath),
    }),
  );
  const podsPath = pathOf(resources.pods, { namespace: options.namespace });
  watches.push(
    reflect(client, {
      path: podsPath,
      labelSelector: 'k8s-app=isthmus',
      schema: Pod,
      table: agents,
      toRow: agentPodRow,
      ...report(podsPath),
    }),
  );
  const fixes = deriveNodeFixes(nodes, agents, config['agent-not-ready-taint-key']);
  new Reconciler(
    fixes,
    nodeFixTarget(client, row =>
      log.info({ node: row.node, taint: row.taintAt >= 0 }, 'node is ready for pods'),
    ),
    { signal, onError: (node, error) => log.warn({ node, error }, 'node') },
  );

  // A cluster without an ID is in no mesh: it needs no certificates.
  const certificates =
    config['cluster-id'] === 0
      ? undefined
      : keepCertificates(
          client,
          {
            namespace: options.namespace,
            cluster: config['cluster-name'],
            ownRemoteUser: config['clustermesh-auth-mode'] === 'cluster',
            extraDnsNames: config['clustermesh-apiserver-extra-dns-names'],
            extraIpAddresses: config['clustermesh-apiserver-extra-ip-addresses'],
          },
          {
            signal,
            onChanged: secrets => log.info({ secrets }, 'certificates made or renewed'),
            onError: error => log.warn({ error }, 'certificates'),
          },
        );

  await definitionsInstalled(client, signal);
  if (signal.aborted) return;

  const events = new EventRecorder({ client, onError: error => log.warn({ error }, 'event') });
  const addresses = assignLoadBalancerAddresses({
    client,
    families: [
      ...(config['enable-ipv4'] ? [4 as const] : []),
      ...(config['enable-ipv6'] ? [6 as const] : []),
    ],
    cleanupFinalizer: config['lb-ipam-cleanup-finalizer'],
    events,
    signal,
    onBad: (path, { object, error }) => log.warn({ path, object, error }, 'object ignored'),
    onError: (what, error) => log.warn({ what, error }, 'load balancer addresses'),
  });

  const identities = identitiesTable();
  const identitiesPath = pathOf(resources.ciliumIdentities);
  watches.push(reflectIdentities(client, identities, report(identitiesPath)));
  const endpoints = new Table<EndpointObjectRow>({
    name: 'endpoint objects',
    keyOf: row => `${row.namespace}/${row.name}`,
  });
  const endpointsPath = pathOf(resources.ciliumEndpoints);
  watches.push(
    reflect(client, {
      path: endpointsPath,
      schema: CiliumEndpoint,
      table: endpoints,
      toRow: endpointObjectRow,
      ...report(endpointsPath),
    }),
  );
  const ciliumNodes = new Table<NodeRow>({ name: 'cilium nodes', keyOf: row => row.name });
  const ciliumNodesPath = pathOf(resources.ciliumNodes);
  watches.push(
    reflect(client, {
      path: ciliumNodesPath,
      schema: CiliumNode,
      table: ciliumNodes,
      toRow: nodeRow,
      ...report(ciliumNodesPath),
    }),
  );
  const mesh = runMesh({ client, config, nodes: ciliumNodes, events, signal });
  const pods = new Table<LivePod>({ name: 'live pods', keyOf: row => `${row.namespace}/${row.name}` });
  const allPodsPath = pathOf(resources.pods);
  watches.push(
    reflect(client, {
      path: allPodsPath,
      fieldSelector: 'status.phase!=Succeeded,status.phase!=Failed',
      metadataOnly: true,
      schema: AnyObject,
      table: pods,
      toRow: ({ metadata }) => ({
        namespace: metadata.namespace ?? '',
        name: metadata.name,
        uid: metadata.uid,
      }),
      ...report(allPodsPath),
    }),
  );

  const tables = [nodes, agents, identities, endpoints, ciliumNodes, pods];
  /** What is not fully known or not fresh: nothing is removed while there is anything. */
  const unknown = (): string[] => [
    ...tables.filter(each => !each.synced).map(each => each.name),
    ...watches.filter(each => !each.connected || each.bad.size > 0).map(each => each.path),
  ];
  const every = async (kind: string, interval: number, round: () => Promise<Round>): Promise<void> => {
    while (!signal.aborted) {
      await sleep(interval, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return;
      const waitingFor = unknown();
      if (waitingFor.length) {
        log.info(
          { kind, waitingFor },
          'nothing is collected while the state of the cluster is not fully known',
        );
        continue;
      }
      const { removed, failed } = await round();
      if (removed.length) log.info({ kind, removed }, 'collected');
      for (const error of failed) log.warn({ kind, error }, 'cannot collect');
      options.onCollected?.(kind, removed.length);
    }
  };
  const range = allocationRange(config['cluster-id'], config['max-connected-clusters']);
  const timeout = config['identity-heartbeat-timeout'];
  await Promise.all([
    every(
      'CiliumEndpoint',
      config['cilium-endpoint-gc-interval'],
      endpointCollector(client, endpoints, pods),
    ),
    every('CiliumNode', config['nodes-gc-interval'], nodeCollector(client, ciliumNodes, nodes)),
    every('CiliumIdentity', config['identity-gc-interval'], () =>
      collectIdentities(client, identities, endpoints, { range, timeout, now: Date.now() }),
    ),
    ...watches.map(each => each.done),
    certificates,
    addresses,
    mesh,
  ]);
}

/** Tries until the API server takes the definitions: it may only just be starting. */
async function definitionsInstalled(client: KubeClient, signal: AbortSignal): Promise<void> {
  for (let attempt = 0; !signal.aborted; attempt++) {
    try {
      await installDefinitions(client, {
        signal,
        onInstalled: name => log.info({ name }, 'definition installed'),
      });
      return;
    } catch (error) {
      if (signal.aborted) return;
      log.warn({ error }, 'definitions cannot be installed yet');
      await sleep(Math.min(5000, 100 * 2 ** attempt), undefined, { signal }).catch(() => undefined);
    }
  }
}
