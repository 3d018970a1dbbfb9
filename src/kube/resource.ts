/** A kind of object the API server keeps: enough to make its paths and to write one. */
export interface Resource {
  /** Empty for the core group. */
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly kind: string;
  readonly namespaced: boolean;
}

/** The resources Isthmus touches. */
export const resources = {
  services: resource('', 'v1', 'services', 'Service', true),
  endpointSlices: resource('discovery.k8s.io', 'v1', 'endpointslices', 'EndpointSlice', true),
  pods: resource('', 'v1', 'pods', 'Pod', true),
  nodes: resource('', 'v1', 'nodes', 'Node', false),
  namespaces: resource('', 'v1', 'namespaces', 'Namespace', false),
  secrets: resource('', 'v1', 'secrets', 'Secret', true),
  configMaps: resource('', 'v1', 'configmaps', 'ConfigMap', true),
  events: resource('', 'v1', 'events', 'Event', true),
  deployments: resource('apps', 'v1', 'deployments', 'Deployment', true),
  leases: resource('coordination.k8s.io', 'v1', 'leases', 'Lease', true),
  crds: resource(
    'apiextensions.k8s.io',
    'v1',
    'customresourcedefinitions',
    'CustomResourceDefinition',
    false,
  ),
  ciliumNodes: resource('cilium.io', 'v2', 'ciliumnodes', 'CiliumNode', false),
  ciliumIdentities: resource('cilium.io', 'v2', 'ciliumidentities', 'CiliumIdentity', false),
  ciliumEndpoints: resource('cilium.io', 'v2', 'ciliumendpoints', 'CiliumEndpoint', true),
  loadBalancerIPPools: resource(
    'cilium.io',
    'v2',
    'ciliumloadbalancerippools',
    'CiliumLoadBalancerIPPool',
    false,
  ),
  l2AnnouncementPolicies: resource(
    'cilium.io',
    'v2alpha1',
    'ciliuml2announcementpolicies',
    'CiliumL2AnnouncementPolicy',
    false,
  ),
} as const satisfies Record<string, Resource>;

/** Group of the Multi-Cluster Services API, and the versions of it that mean the same, the newer first. */
export const MCS_GROUP = 'multicluster.x-k8s.io';
export const mcsVersions = ['v1beta1', 'v1alpha1'] as const;

/** The resources of the Multi-Cluster Services API in a version that is served. */
export const mcsResources = (version: string) => ({
  serviceExports: resource(MCS_GROUP, version, 'serviceexports', 'ServiceExport', true),
  serviceImports: resource(MCS_GROUP, version, 'serviceimports', 'ServiceImport', true),
});

/**
 * The path of a collection or object: `{namespace, name, subresource}` as far as given. A namespaced
 * resource without `namespace` means the collection over all namespaces.
 */
export function pathOf(
  of: Resource,
  where: { namespace?: string | undefined; name?: string; subresource?: string } = {},
): string {
  const root = of.group ? `/apis/${of.group}/${of.version}` : `/api/${of.version}`;
  const scope = of.namespaced && where.namespace ? `/namespaces/${where.namespace}` : '';
  const name = where.name ? `/${encodeURIComponent(where.name)}` : '';
  return `${root}${scope}/${of.plural}${name}${where.subresource ? `/${where.subresource}` : ''}`;
}

/** apiVersion and kind as an object of the resource carries them. */
export function typeOf(of: Resource): { apiVersion: string; kind: string } {
  return { apiVersion: of.group ? `${of.group}/${of.version}` : of.version, kind: of.kind };
}

function resource(
  group: string,
  version: string,
  plural: string,
  kind: string,
  namespaced: boolean,
): Resource {
  return { group, version, plural, kind, namespaced };
}
