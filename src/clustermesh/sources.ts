import { CiliumEndpoint, type EndpointObjectRow, endpointObjectRow } from '../api/crds/cilium-endpoint.ts';
import { CiliumNode, type NodeRow, nodeRow } from '../api/crds/cilium-node.ts';
import {
  type ServiceExport,
  ServiceExportObject,
  serviceExportTable,
  toServiceExport,
} from '../api/crds/service-export.ts';
import {
  type EndpointSlice,
  endpointSliceSchema,
  endpointSliceTable,
  ownEndpointSlices,
  plainEndpointSlice,
  toEndpointSlice,
} from '../api/endpoint-slice.ts';
import { isGlobalNamespace, namespaceProblem } from '../api/global-namespace.ts';
import { type Service, serviceKey, serviceSchema, toService } from '../api/service.ts';
import { identitiesTable, reflectIdentities } from '../identity/identities.ts';
import type { KubeClient } from '../kube/client.ts';
import { Namespace } from '../kube/objects.ts';
import { type BadObject, type Reflection, reflect } from '../kube/reflect.ts';
import { MCS_GROUP, mcsResources, mcsVersions, pathOf, type Resource, resources } from '../kube/resource.ts';
import { servedVersion } from '../kube/served-version.ts';
import { Table } from '../table/table.ts';
import {
  BY_NAMESPACE,
  ENDPOINTS_BY_ADDRESS,
  type ExportNamespace,
  type ExportSources,
  namespaceOfIdentity,
} from './export.ts';

export interface SourceOptions {
  /** What a namespace is that does not say. */
  readonly globalByDefault: boolean;
  readonly signal: AbortSignal;
  /** Follow ServiceExports, too. Their definition may be installed later. */
  readonly mcsApi: boolean;
  readonly onBad: (path: string, bad: BadObject) => void;
  readonly onError: (path: string, error: Error) => void;
}

/** Follows what the cluster may export, in its own API server. */
export function exportSources(
  client: KubeClient,
  { signal, mcsApi, globalByDefault, onBad, onError }: SourceOptions,
): { readonly sources: ExportSources; readonly reflections: readonly Reflection[] } {
  const namespaces = new Table<ExportNamespace>({
    name: 'namespaces',
    keyOf: row => row.name,
    equal: (a, b) => a.global === b.global && a.problem === b.problem && a.uid === b.uid,
  });
  const services = new Table<Service>({
    name: 'services',
    keyOf: serviceKey,
    indexes: { [BY_NAMESPACE]: row => [row.namespace] },
  });
  const serviceExports = new Table<ServiceExport>(serviceExportTable);
  const slices = new Table<EndpointSlice>(endpointSliceTable);
  const nodes = new Table<NodeRow>({ name: 'nodes', keyOf: row => row.name });
  const identities = identitiesTable({ [BY_NAMESPACE]: row => [namespaceOfIdentity(row)] });
  const endpoints = new Table<EndpointObjectRow>({
    name: 'endpoints',
    keyOf: row => `${row.namespace}/${row.name}`,
    indexes: { [ENDPOINTS_BY_ADDRESS]: row => row.addresses, [BY_NAMESPACE]: row => [row.namespace] },
  });
  const to = (resource: Resource) => {
    const path = pathOf(resource);
    return {
      path,
      signal,
      onBad: (bad: BadObject) => onBad(path, bad),
      onError: (error: Error) => onError(path, error),
    };
  };
  const reflections = [
    reflect(client, {
      ...to(resources.namespaces),
      schema: Namespace,
      table: namespaces,
      toRow: ({ metadata: { name, uid, annotations } }) => {
        const problem = namespaceProblem(annotations);
        const global = isGlobalNamespace(annotations, globalByDefault);
        return { name, uid, global, ...(problem === undefined ? {} : { problem }) };
      },
    }),
    reflect(client, { ...to(resources.services), schema: serviceSchema, table: services, toRow: toService }),
    reflect(client, {
      ...to(resources.endpointSlices),
      labelSelector: ownEndpointSlices,
      schema: endpointSliceSchema,
      plain: plainEndpointSlice,
      table: slices,
      toRow: toEndpointSlice,
    }),
    reflect(client, { ...to(resources.ciliumNodes), schema: CiliumNode, table: nodes, toRow: nodeRow }),
    reflect(client, {
      ...to(resources.ciliumEndpoints),
      schema: CiliumEndpoint,
      table: endpoints,
      toRow: endpointObjectRow,
    }),
    reflectIdentities(client, identities, to(resources.ciliumIdentities)),
  ];
  if (mcsApi)
    void servedVersion(client, MCS_GROUP, mcsVersions, {
      signal,
      onError: error => onError(MCS_GROUP, error),
    }).then(
      version =>
        reflect(client, {
          ...to(mcsResources(version).serviceExports),
          schema: ServiceExportObject,
          table: serviceExports,
          toRow: toServiceExport,
        }),
      () => undefined, // the process ends
    );
  else serviceExports.markSynced();
  return {
    sources: { namespaces, services, serviceExports, slices, nodes, identities, endpoints },
    reflections,
  };
}
