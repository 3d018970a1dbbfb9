/** What a cluster makes of other clusters' services, beside its datapath: objects that DNS and other programs read. */

import type { NodeRow } from '../api/crds/cilium-node.ts';
import { MANAGED_BY_LABEL, MESH_SLICES } from '../api/endpoint-slice.ts';
import { type Service, serviceKey, serviceSchema, toService } from '../api/service.ts';
import { RemoteClusters } from '../clustermesh/remote-clusters.ts';
import { deriveVerdicts } from '../clustermesh/verdict-tables.ts';
import type { KubeClient } from '../kube/client.ts';
import { AnyObject } from '../kube/objects.ts';
import { type BadObject, type Reflection, type ReflectOptions, reflect } from '../kube/reflect.ts';
import { pathOf, resources } from '../kube/resource.ts';
import { logOf } from '../log.ts';
import { Reconciler } from '../table/reconciler.ts';
import { type ReadonlyTable, Table } from '../table/table.ts';
import type { OperatorConfig } from './config.ts';
import {
  deriveSliceFixes,
  type MeshSlice,
  meshSliceSchema,
  meshSliceTable,
  toMeshSlice,
} from './endpoint-slice-sync.ts';
import { type ObjectFix, objectFixTarget } from './object-fixes.ts';

const log = logOf('mesh');

export interface MeshOptions {
  readonly client: KubeClient;
  readonly config: OperatorConfig;
  /** Nodes of this cluster: what they say of other clusters tells which are dead. */
  readonly nodes: ReadonlyTable<NodeRow>;
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
      objectFixTarget(client, ({ path, apply }) => log.debug({ path, removed: !apply }, name)),
      { signal, onError: (path, error, attempt) => log.warn({ path, error, attempt }, name) },
    );
  };

  const slices = config['clustermesh-enable-endpoint-sync'];
  if (config['cluster-id'] === 0 || !slices) {
    await removeMeshSlices(client, signal);
    return;
  }
  const remote = new RemoteClusters({
    folder: config['clustermesh-config'],
    cluster: config['cluster-name'],
    clusterId: config['cluster-id'],
    maxClusters: config['max-connected-clusters'],
    kinds: ['services'],
    unheard: deriveVerdicts(options.nodes).clusters,
    signal,
  }).tables;
  const services = follow(new Table<Service>({ name: 'services', keyOf: serviceKey }), {
    path: pathOf(resources.services),
    schema: serviceSchema,
    toRow: toService,
  });
  const meshSlices = follow(new Table<MeshSlice>(meshSliceTable), {
    path: pathOf(resources.endpointSlices),
    labelSelector: `${MANAGED_BY_LABEL}=${MESH_SLICES}`,
    schema: meshSliceSchema,
    toRow: toMeshSlice,
  });
  // What is not known yet must not look as if it were not wanted.
  await Promise.all([services, meshSlices].map(table => table.whenSynced()));
  keep('endpoint slices of other clusters', deriveSliceFixes({ services, present: meshSlices, remote }));
  await Promise.all(watches.map(each => each.done));
}

/** Where they are not wanted any more, slices made before would stay as they are for ever. */
async function removeMeshSlices(client: KubeClient, signal: AbortSignal): Promise<void> {
  const once = new AbortController();
  const found = new Table<{ readonly path: string }>({ name: 'mesh-slices', keyOf: row => row.path });
  const watch = reflect(client, {
    path: pathOf(resources.endpointSlices),
    labelSelector: `${MANAGED_BY_LABEL}=${MESH_SLICES}`,
    metadataOnly: true,
    schema: AnyObject,
    table: found,
    toRow: ({ metadata: { namespace, name } }) => ({
      path: pathOf(resources.endpointSlices, { namespace, name }),
    }),
    signal: AbortSignal.any([signal, once.signal]),
    onError: error => log.warn({ error }, 'endpoint slices'),
  });
  await Promise.race([found.whenSynced(), watch.done]);
  once.abort();
  for (const { path } of found.values())
    await client.delete(path).catch((error: unknown) => log.warn({ path, error }, 'cannot be removed'));
}
