/** What a cluster makes of other clusters' services, beside its datapath: objects that DNS and other programs read. */

import { setTimeout as sleep } from 'node:timers/promises';
import type { NodeRow } from '../api/crds/cilium-node.ts';
import {
  type ServiceExport,
  ServiceExportObject,
  serviceExportTable,
  toServiceExport,
} from '../api/crds/service-export.ts';
import {
  type ServiceImport,
  ServiceImportObject,
  serviceImportTable,
  toServiceImport,
} from '../api/crds/service-import.ts';
import {
  type EndpointSlice,
  endpointSliceSchema,
  endpointSliceTable,
  MANAGED_BY_LABEL,
  MESH_SLICES,
  toEndpointSlice,
} from '../api/endpoint-slice.ts';
import { isGlobalNamespace } from '../api/global-namespace.ts';
import { serviceKey } from '../api/service.ts';
import { deriveDeadNodes } from '../clustermesh/dead-nodes.ts';
import { RemoteClusters } from '../clustermesh/remote-clusters.ts';
import { podsOfService } from '../clustermesh/service-endpoints.ts';
import { deriveVerdicts } from '../clustermesh/verdict-tables.ts';
import type { KubeClient } from '../kube/client.ts';
import type { EventRecorder } from '../kube/events.ts';
import { AnyObject } from '../kube/objects.ts';
import { type BadObject, type Reflection, type ReflectOptions, reflect } from '../kube/reflect.ts';
import { MCS_GROUP, mcsResources, mcsVersions, pathOf, resources } from '../kube/resource.ts';
import { servedVersion } from '../kube/served-version.ts';
import { logOf } from '../log.ts';
import { MIRRORED_SLICES } from '../mcsapi/objects.ts';
import { Reconciler } from '../table/reconciler.ts';
import { type ReadonlyTable, Table } from '../table/table.ts';
import type { OperatorConfig } from './config.ts';
import { configureCoredns } from './coredns.ts';
import { installDefinitions, mcsDefinitions } from './crds.ts';
import {
  deriveSliceFixes,
  type MeshSlice,
  meshSliceSchema,
  meshSliceTable,
  toMeshSlice,
} from './endpoint-slice-sync.ts';
import {
  deriveMcsFixes,
  type MirroredSlice,
  mirroredSliceSchema,
  mirroredSliceTable,
  type OwnedService,
  ownedServiceSchema,
  toMirroredSlice,
  toOwnedService,
} from './mcs-api.ts';
import { type ObjectFix, objectFixTarget } from './object-fixes.ts';
import { removeMeshSlices } from './remove-mesh-slices.ts';

const log = logOf('mesh');

export interface MeshOptions {
  readonly client: KubeClient;
  readonly config: OperatorConfig;
  /** Nodes of this cluster: what they say of other clusters tells which are dead. */
  readonly nodes: ReadonlyTable<NodeRow>;
  readonly events: EventRecorder;
  readonly signal: AbortSignal;
}

/** Keeps the objects that other clusters' services are seen by. Resolves when the signal aborts. */
export async function runMesh(options: MeshOptions): Promise<void> {
  const { client, config, signal } = options;
  const watches: Reflection[] = [];
  const follow = <T, Row>(
    table: Table<Row>,
    what: Pick<ReflectOptions<T, Row>, 'path' | 'schema' | 'toRow' | 'labelSelector' | 'metadataOnly'>,
  ): Table<Row> => {
    const { path } = what;
    watches.push(
      reflect<T, Row>(client, {
        ...what,
        table,
        signal,
        onBad: ({ object, error }: BadObject) => log.warn({ path, object, error }, 'object ignored'),
        onError: (error, delay) => log.warn({ path, error, delay: Math.round(delay) }, 'watch'),
      }),
    );
    return table;
  };
  const keep = (name: string, fixes: ReadonlyTable<ObjectFix>): void => {
    new Reconciler(
      fixes,
      objectFixTarget(client, ({ path, apply, event }) => {
        log.debug({ path, removed: !apply }, name);
        if (event) options.events.warn(event.subject, event.reason, event.message);
      }),
      { signal, onError: (path, error, attempt) => log.warn({ path, error, attempt }, name) },
    );
  };

  const which = {
    global: config['clustermesh-enable-endpoint-sync'],
    derived: config['clustermesh-enable-mcs-api'],
  };
  if (config['cluster-id'] === 0 || !(which.global || which.derived)) {
    const removed = await removeMeshSlices(client, signal).catch((error: unknown) => {
      if (!signal.aborted) log.warn({ error }, 'slices of other clusters cannot be removed');
      return 0;
    });
    if (removed) log.info({ removed }, 'slices of other clusters are not wanted any more');
    return;
  }
  const services = follow(new Table<OwnedService>({ name: 'services', keyOf: serviceKey }), {
    path: pathOf(resources.services),
    schema: ownedServiceSchema,
    toRow: toOwnedService,
  });
  // Where there is a mirror its etcd is a Service of this cluster, whose name the host network does not resolve.
  const apiserver = follow(new Table<EndpointSlice>(endpointSliceTable), {
    path: pathOf(resources.endpointSlices, { namespace: process.env.POD_NAMESPACE ?? 'kube-system' }),
    labelSelector: 'kubernetes.io/service-name=clustermesh-apiserver',
    schema: endpointSliceSchema,
    toRow: toEndpointSlice,
  });
  const verdicts = deriveVerdicts(options.nodes);
  const remote = new RemoteClusters({
    folder: config['clustermesh-config'],
    cluster: config['cluster-name'],
    clusterId: config['cluster-id'],
    maxClusters: config['max-connected-clusters'],
    silence: config['clustermesh-heartbeat-timeout'] / 1000,
    kinds: which.derived ? ['nodes', 'services', 'serviceexports'] : ['nodes', 'services'],
    verdicts,
    resolve: endpoint => podsOfService({ services, slices: apiserver }, endpoint),
    signal,
  }).tables;
  const deadNodes = deriveDeadNodes({
    clusters: remote.clusters,
    nodes: remote.nodes,
    verdicts: verdicts.remoteNodes,
  });
  const meshSlices = follow(new Table<MeshSlice>(meshSliceTable), {
    path: pathOf(resources.endpointSlices),
    labelSelector: `${MANAGED_BY_LABEL}=${MESH_SLICES}`,
    schema: meshSliceSchema,
    toRow: toMeshSlice,
  });
  // What is not known yet must not look as if it were not wanted.
  await allSynced([services, meshSlices, options.nodes], signal);
  if (signal.aborted) return;
  keep(
    'endpoint slices of other clusters',
    deriveSliceFixes({ services, present: meshSlices, remote, deadNodes, nodes: options.nodes }, which),
  );
  if (which.derived) {
    if (config['clustermesh-mcs-api-install-crds']) void keepDefinitions(client, signal);
    const version = await servedVersion(client, MCS_GROUP, mcsVersions, {
      signal,
      onError: error => log.warn({ error }, 'waiting for the definitions of the Multi-Cluster Services API'),
    }).catch(() => undefined);
    if (version === undefined) return;
    const api = mcsResources(version);
    const own = {
      serviceExports: follow(new Table<ServiceExport>(serviceExportTable), {
        path: pathOf(api.serviceExports),
        schema: ServiceExportObject,
        toRow: toServiceExport,
      }),
      imports: follow(new Table<ServiceImport>(serviceImportTable), {
        path: pathOf(api.serviceImports),
        schema: ServiceImportObject,
        toRow: toServiceImport,
      }),
      slices: follow(new Table<EndpointSlice>(endpointSliceTable), {
        path: pathOf(resources.endpointSlices),
        labelSelector: `${MANAGED_BY_LABEL} notin (${MESH_SLICES},${MIRRORED_SLICES})`,
        schema: endpointSliceSchema,
        toRow: toEndpointSlice,
      }),
      mirrored: follow(new Table<MirroredSlice>(mirroredSliceTable), {
        path: pathOf(resources.endpointSlices),
        labelSelector: `${MANAGED_BY_LABEL}=${MIRRORED_SLICES}`,
        schema: mirroredSliceSchema,
        toRow: toMirroredSlice,
      }),
      namespaces: follow(
        new Table<{ readonly name: string; readonly global: boolean }>({
          name: 'namespaces',
          keyOf: row => row.name,
          equal: (a, b) => a.global === b.global,
        }),
        {
          path: pathOf(resources.namespaces),
          metadataOnly: true,
          schema: AnyObject,
          toRow: ({ metadata: { name, annotations, deletionTimestamp } }) =>
            deletionTimestamp
              ? undefined
              : {
                  name,
                  global: isGlobalNamespace(annotations, config['clustermesh-default-global-namespace']),
                },
        },
      ),
    };
    await allSynced(Object.values(own), signal);
    if (signal.aborted) return;
    if (config['clustermesh-mcs-api-configure-coredns'])
      void configureCoredns({
        client,
        namespace: config['coredns-namespace'],
        configMap: config['coredns-config-map'],
        deployment: config['coredns-deployment'],
        domains: {
          cluster: config['coredns-cluster-domain'],
          clusterset: config['coredns-clusterset-domain'],
        },
        signal,
      });
    const families = [
      ...(config['enable-ipv4'] ? (['IPv4'] as const) : []),
      ...(config['enable-ipv6'] ? (['IPv6'] as const) : []),
    ];
    keep(
      'multi-cluster services',
      deriveMcsFixes(
        { services, remote, ...own },
        {
          cluster: config['cluster-name'],
          families,
          exporting: config['enable-clustermesh-apiserver'],
          api,
        },
      ),
    );
  }
  await Promise.all(watches.map(each => each.done));
}

/** Of these nobody but MCS-API waits: whatever keeps them from being installed is told, and tried again. */
async function keepDefinitions(client: KubeClient, signal: AbortSignal): Promise<void> {
  for (let attempt = 0; !signal.aborted; attempt++) {
    try {
      await installDefinitions(client, {
        definitions: mcsDefinitions,
        signal,
        onInstalled: name => log.info({ name }, 'definition installed'),
      });
      return;
    } catch (error) {
      if (!signal.aborted) log.warn({ error }, 'definitions of the Multi-Cluster Services API');
    }
    await sleep(Math.min(30_000, 100 * 2 ** Math.min(attempt, 10)), undefined, { signal }).catch(
      () => undefined,
    );
  }
}

/** Resolves when all have been read, or nothing is to be done any more. */
async function allSynced(
  tables: readonly { whenSynced(): Promise<void> }[],
  signal: AbortSignal,
): Promise<void> {
  const aborted = new Promise<void>(resolve => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
  await Promise.race([Promise.all(tables.map(each => each.whenSynced())), aborted]);
}
