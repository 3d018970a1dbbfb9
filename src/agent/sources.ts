import { CiliumEndpoint, type EndpointObjectRow, endpointObjectRow } from '../api/crds/cilium-endpoint.ts';
import { CiliumIdentity, type IdentityRow, identityRow } from '../api/crds/cilium-identity.ts';
import { CiliumNode, type NodeRow, nodeRow } from '../api/crds/cilium-node.ts';
import {
  type EndpointSlice,
  endpointSliceSchema,
  endpointSliceTable,
  ownEndpointSlices,
  plainEndpointSlice,
  toEndpointSlice,
} from '../api/endpoint-slice.ts';
import { type Service, serviceKey, serviceSchema, toService } from '../api/service.ts';
import { identitiesTable } from '../identity/identities.ts';
import {
  type NamespaceRow,
  namespaceRow,
  namespacesTable,
  type PodRow,
  podRow,
  podsTable,
} from '../identity/pod.ts';
import type { KubeClient } from '../kube/client.ts';
import { Namespace, Node, Pod } from '../kube/objects.ts';
import { type Reflection, type ReflectOptions, reflect } from '../kube/reflect.ts';
import { pathOf, resources } from '../kube/resource.ts';
import { logOf } from '../log.ts';
import { Table } from '../table/table.ts';
import { type OwnNode, ownNodeRow } from './own-node.ts';

const log = logOf('sources');

/** Everything the agent reads from the API server, one table each. */
export interface Sources {
  /** This node's object alone. */
  readonly node: Table<OwnNode>;
  readonly services: Table<Service>;
  readonly slices: Table<EndpointSlice>;
  /** Nodes of the own cluster, by name. */
  readonly nodes: Table<NodeRow>;
  /** CiliumEndpoints of the own cluster; index `address`. */
  readonly endpoints: Table<EndpointObjectRow>;
  readonly identities: Table<IdentityRow>;
  /** This node's pods. */
  readonly pods: Table<PodRow>;
  readonly namespaces: Table<NamespaceRow>;
  readonly reflections: readonly Reflection[];
}

/**
 * Starts to follow them all at once. A slice that is nobody's, or of names, has no row. `onUnread`: the API server did not
 * give what was asked for; it is asked again.
 */
export function readSources(
  client: KubeClient,
  node: string,
  families: readonly (4 | 6)[],
  signal: AbortSignal,
  onUnread: () => void,
): Sources {
  const reflections: Reflection[] = [];
  const follow = <T, Row>(
    path: string,
    table: Table<Row>,
    what: Pick<ReflectOptions<T, Row>, 'schema' | 'plain' | 'toRow' | 'fieldSelector' | 'labelSelector'>,
  ): Table<Row> => {
    const reflection = reflect<T, Row>(client, {
      path,
      table,
      signal,
      ...what,
      onBad: ({ object, error }) => log.warn({ path, object, error: error.message }, 'object left out'),
      onError: (error, delay) => {
        log.warn({ path, error: error.message, delay }, 'cannot be read now');
        onUnread();
      },
    });
    reflections.push(reflection);
    return table;
  };
  return {
    node: follow(pathOf(resources.nodes), new Table<OwnNode>({ name: 'own-node', keyOf: row => row.name }), {
      schema: Node,
      toRow: object => ownNodeRow(object, families),
      fieldSelector: `metadata.name=${node}`,
    }),
    services: follow(
      pathOf(resources.services),
      new Table<Service>({ name: 'services', keyOf: serviceKey }),
      { schema: serviceSchema, toRow: toService },
    ),
    slices: follow(pathOf(resources.endpointSlices), new Table<EndpointSlice>(endpointSliceTable), {
      labelSelector: ownEndpointSlices,
      schema: endpointSliceSchema,
      plain: plainEndpointSlice,
      toRow: object => {
        const row = toEndpointSlice(object);
        return row.service === '' || row.addressType === 'FQDN' ? undefined : row;
      },
    }),
    nodes: follow(
      pathOf(resources.ciliumNodes),
      new Table<NodeRow>({ name: 'nodes', keyOf: row => row.name }),
      { schema: CiliumNode, toRow: nodeRow },
    ),
    endpoints: follow(
      pathOf(resources.ciliumEndpoints),
      new Table<EndpointObjectRow>({
        name: 'cilium-endpoints',
        keyOf: row => `${row.namespace}/${row.name}`,
        indexes: { address: row => row.addresses },
      }),
      { schema: CiliumEndpoint, toRow: endpointObjectRow },
    ),
    identities: follow(pathOf(resources.ciliumIdentities), identitiesTable(), {
      schema: CiliumIdentity,
      toRow: identityRow,
    }),
    pods: follow(pathOf(resources.pods), podsTable(), {
      schema: Pod,
      toRow: podRow,
      fieldSelector: `spec.nodeName=${node}`,
    }),
    namespaces: follow(pathOf(resources.namespaces), namespacesTable(), {
      schema: Namespace,
      toRow: namespaceRow,
    }),
    reflections,
  };
}
