/**
 * The Multi-Cluster Services API: what is exported, here and elsewhere → one service for each name → what is to be
 * changed about ServiceExports' status, ServiceImports, derived Services and their slices. Source: KEP-1645.
 */
import * as z from 'zod';
import type { ServiceExport } from '../api/crds/service-export.ts';
import { type ServiceImport, serviceImportText } from '../api/crds/service-import.ts';
import {
  type EndpointSlice,
  endpointSliceSchema,
  SERVICE_NAME_LABEL,
  SLICES_BY_SERVICE,
  toEndpointSlice,
} from '../api/endpoint-slice.ts';
import { globalNamespaceAnnotation } from '../api/global-namespace.ts';
import { type Service, serviceKey, serviceSchema, toService } from '../api/service.ts';
import type { RemoteTables } from '../clustermesh/rows.ts';
import { type mcsResources, pathOf, resources, typeOf } from '../kube/resource.ts';
import { derivedName } from '../mcsapi/derived-name.ts';
import {
  EXPORTS_BY_SERVICE,
  type ExportedService,
  exportedService,
  type IpFamily,
  isExportable,
} from '../mcsapi/exported-service.ts';
import { type MergedService, mergeExports } from '../mcsapi/merge-exports.ts';
import {
  derivedServiceObject,
  MCS_SERVICE_LABEL,
  mirroredSliceObject,
  type Named,
  serviceImportObject,
  supportedFamilies,
} from '../mcsapi/objects.ts';
import { derive, input } from '../table/derive.ts';
import type { ReadonlyTable } from '../table/table.ts';
import { sameCondition, sinceOf, type WantedCondition } from './condition.ts';
import { type ObjectFix, objectFixTable } from './object-fixes.ts';
import { type PresentObject, presentMetadata, presentObject } from './present-object.ts';

/** A Service with its owners. */
export interface OwnedService extends Service {
  readonly owners: readonly string[];
}

export const ownedServiceSchema = serviceSchema.extend({
  metadata: serviceSchema.shape.metadata.extend({
    ownerReferences: z.array(z.object({ uid: z.string() })).nullish(),
  }),
});

export const toOwnedService = (object: z.infer<typeof ownedServiceSchema>): OwnedService => ({
  ...toService(object),
  owners: object.metadata.ownerReferences?.map(each => each.uid) ?? [],
});

/** A slice of this cluster's endpoints, copied for a derived Service. */
export interface MirroredSlice extends PresentObject {
  readonly slice: EndpointSlice;
}

export const MIRRORED_BY_SERVICE = 'service';
/** Key `namespace/name`; index: the import it is for. */
export const mirroredSliceTable = {
  name: 'mirrored-slices',
  keyOf: (row: MirroredSlice): string => `${row.namespace}/${row.name}`,
  indexes: {
    [MIRRORED_BY_SERVICE]: (row: MirroredSlice) => [`${row.namespace}/${row.labels[MCS_SERVICE_LABEL]}`],
  },
} as const;

export const mirroredSliceSchema = endpointSliceSchema.extend({ metadata: presentMetadata });

/** @returns undefined for a slice whose labels are not those that its name was made of: it is not one of these (any more) */
export function toMirroredSlice(object: z.infer<typeof mirroredSliceSchema>): MirroredSlice | undefined {
  const { labels, namespace, name } = object.metadata;
  const derived = derivedName(namespace, labels?.[MCS_SERVICE_LABEL] ?? '');
  if (labels?.[SERVICE_NAME_LABEL] !== derived || !name.startsWith(`${derived}-`)) return undefined;
  const slice = toEndpointSlice(object);
  return { ...presentObject(object.metadata, slice), slice };
}

export interface McsTables {
  readonly services: ReadonlyTable<OwnedService>;
  readonly serviceExports: ReadonlyTable<ServiceExport>;
  readonly imports: ReadonlyTable<ServiceImport>;
  /** With the indexes of `endpointSliceTable`; of own endpoints, without mirrored ones. */
  readonly slices: ReadonlyTable<EndpointSlice>;
  readonly mirrored: ReadonlyTable<MirroredSlice>;
  /** Those in which something can be made, and whether they are for other clusters, too. */
  readonly namespaces: ReadonlyTable<{ readonly name: string; readonly global: boolean }>;
  readonly remote: Pick<RemoteTables, 'serviceExports' | 'pending'>;
}

export interface McsOptions {
  /** Name of this cluster. */
  readonly cluster: string;
  /** Families that Services have here. */
  readonly families: readonly IpFamily[];
  /** This cluster has a clustermesh-apiserver, without which no other hears of its exports. */
  readonly exporting: boolean;
  /** The API in the version that is served. */
  readonly api: ReturnType<typeof mcsResources>;
}

/** The tables of this cluster must be synced. Work follows the name that changes. */
export function deriveMcsFixes(tables: McsTables, options: McsOptions): ReadonlyTable<ObjectFix> {
  const { services, serviceExports, imports, slices, mirrored, namespaces, remote } = tables;
  const named = (row: Named): string => `${row.namespace}/${row.name}`;
  return derive<ObjectFix>({
    ...objectFixTable,
    name: 'mcs-fixes',
    inputs: [
      input(services, row => [
        serviceKey(row),
        ...(row.labels[MCS_SERVICE_LABEL] ? [`${row.namespace}/${row.labels[MCS_SERVICE_LABEL]}`] : []),
      ]),
      input(serviceExports, row => [named(row)]),
      input(imports, row => [named(row)]),
      input(slices, row => (row.service === '' ? [] : [row.service])),
      input(mirrored, row => [`${row.namespace}/${row.labels[MCS_SERVICE_LABEL]}`]),
      input(remote.serviceExports, row => [named(row)]),
      input(namespaces, function* ({ name }) {
        for (const table of [remote.serviceExports, serviceExports, imports])
          for (const row of table.values()) if (row.namespace === name) yield named(row);
      }),
      input(remote.pending, function* ({ cluster }) {
        for (const row of imports.values()) if (row.clusters.includes(cluster)) yield named(row);
      }),
    ],
    compute(key) {
      const at = key.indexOf('/');
      const name = { namespace: key.slice(0, at), name: key.slice(at + 1) };
      return mcsFixes(
        {
          ...name,
          isNamespace: namespaces.has(name.namespace),
          isGlobal: namespaces.get(name.namespace)?.global === true,
          service: services.get(key),
          serviceExport: serviceExports.get(key),
          serviceImport: imports.get(key),
          derived: services.get(`${name.namespace}/${derivedName(name.namespace, name.name)}`),
          slices: [...slices.by(SLICES_BY_SERVICE, key)],
          mirrored: [...mirrored.by(MIRRORED_BY_SERVICE, key)],
          remotes: [...remote.serviceExports.by(EXPORTS_BY_SERVICE, key)],
          isPending: cluster => remote.pending.has(cluster),
        },
        options,
      );
    },
  });
}

/** All there is of one name. */
export interface McsState extends Named {
  readonly isNamespace: boolean;
  /** What is in its namespace is for other clusters, and what they have under its name is for this one. */
  readonly isGlobal: boolean;
  readonly service: Service | undefined;
  readonly serviceExport: ServiceExport | undefined;
  readonly serviceImport: ServiceImport | undefined;
  readonly derived: OwnedService | undefined;
  readonly slices: readonly EndpointSlice[];
  readonly mirrored: readonly MirroredSlice[];
  readonly remotes: readonly ExportedService[];
  /** A cluster that has not told yet what it exports. */
  readonly isPending: (cluster: string) => boolean;
}

/**
 * What is to be changed of one name. An import that a cluster takes part in that has not been heard yet stays as it is:
 * without that cluster it would look different, or not be there at all.
 */
export function mcsFixes(state: McsState, options: McsOptions): ObjectFix[] {
  const { service, serviceExport, serviceImport, remotes } = state;
  if (!state.isNamespace) return [];
  const heard = (cluster: string): boolean =>
    !state.isPending(cluster) || remotes.some(each => each.cluster === cluster);
  if (serviceImport && !serviceImport.clusters.every(heard)) return [];
  const own =
    serviceExport && service && isExportable(service) && state.isGlobal
      ? exportedService(options.cluster, service, serviceExport)
      : undefined;
  const exports = [...remotes, ...(own ? [own] : [])];
  const merged = exports.length ? mergeExports(exports) : undefined;
  return [
    ...(serviceExport ? exportStatusFix(serviceExport, state, merged, options) : []),
    ...(merged ? importFixes(state, merged, own, options) : removals(state, options)),
  ];
}

/** Nobody exports it (any more): what is left of it goes, at once and not only when the garbage collector comes by. */
function removals(
  { serviceImport, derived, mirrored, namespace, name }: McsState,
  { api }: McsOptions,
): ObjectFix[] {
  return [
    ...(serviceImport
      ? [{ path: pathOf(api.serviceImports, { namespace, name }), uid: serviceImport.uid }]
      : []),
    ...(derived ? [removeDerived(derived)] : []),
    ...mirrored.map(removeSlice),
  ];
}

const removeDerived = ({ namespace, name, uid }: OwnedService): ObjectFix => ({
  path: pathOf(resources.services, { namespace, name }),
  uid,
});
const removeSlice = ({ namespace, name, uid }: MirroredSlice): ObjectFix => ({
  path: pathOf(resources.endpointSlices, { namespace, name }),
  uid,
});

function importFixes(
  state: McsState,
  merged: MergedService,
  own: ExportedService | undefined,
  options: McsOptions,
): ObjectFix[] {
  const { namespace, name, serviceImport, mirrored } = state;
  const { api } = options;
  const families = state.isGlobal ? supportedFamilies(merged, options.families) : [];
  const headless = merged.type === 'Headless';
  // One of the other kind cannot become this kind: it goes, and another comes.
  const derived = state.derived?.headless === headless && families.length ? state.derived : undefined;
  const fixes: ObjectFix[] = [];
  const wanted = serviceImportObject(api.serviceImports, state, merged, families, derived);
  if (serviceImport?.text !== serviceImportText(wanted))
    fixes.push({ path: pathOf(api.serviceImports, { namespace, name }), apply: wanted });
  if (state.derived && !derived) fixes.push(removeDerived(state.derived));
  else if (serviceImport && families.length) {
    const object = derivedServiceObject(
      api.serviceImports,
      { namespace, name, uid: serviceImport.uid },
      merged,
    );
    const path = pathOf(resources.services, { namespace, name: object.metadata.name });
    if (!derived || derivedText(derived) !== derivedText(toOwnedService(ownedServiceSchema.parse(object))))
      fixes.push({ path, apply: object });
  }
  if (serviceImport)
    fixes.push(...importStatusFix(serviceImport, merged, { ...state, families, derived }, api));

  const open = new Map(mirrored.map(each => [each.name, each]));
  for (const slice of own && derived ? state.slices : []) {
    if (!families.some(family => family === slice.addressType)) continue;
    const object = mirroredSliceObject(options.cluster, state, derived!, slice, { merged, own: own!.ports });
    if (!object) continue;
    const there = open.get(object.metadata.name);
    open.delete(object.metadata.name);
    if (there?.text === toMirroredSlice(mirroredSliceSchema.parse(object))?.text) continue;
    const path = pathOf(resources.endpointSlices, { namespace, name: object.metadata.name });
    fixes.push({ path, apply: object });
  }
  return [...fixes, ...[...open.values()].map(removeSlice)];
}

/** What is compared of a derived Service. Addresses and families are the API server's to give. */
function derivedText(service: OwnedService): string {
  const ordered = (map: Readonly<Record<string, string>>): object =>
    Object.entries(map).sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([
    ordered(service.labels),
    ordered(service.annotations),
    service.owners,
    service.headless,
    service.ports.map(({ name, protocol, appProtocol, port }) => [name, protocol, appProtocol ?? '', port]),
    service.affinityTimeout,
    service.internalTrafficPolicy,
    service.trafficDistribution,
  ]);
}

const notGlobal = `the namespace is not global: it is annotated ${globalNamespaceAnnotation}: "false", or not annotated "true" where that is needed`;

type Verdict = Omit<WantedCondition, 'since' | 'observedGeneration'>;
const verdict = (type: string, status: boolean, reason: string, message: string): Verdict => ({
  type,
  status: status ? 'True' : 'False',
  reason,
  message,
});

function importStatusFix(
  { namespace, name, generation, clusters, conditions }: ServiceImport,
  merged: MergedService,
  { isGlobal, families, derived }: Pick<McsState, 'isGlobal' | 'derived'> & { families: readonly IpFamily[] },
  api: McsOptions['api'],
): ObjectFix[] {
  const ready = !isGlobal
    ? verdict('Ready', false, 'NamespaceNotGlobal', `nothing is imported into it: ${notGlobal}`)
    : !families.length
      ? verdict(
          'Ready',
          false,
          'IPFamilyNotSupported',
          `exported with ${merged.ipFamilies.join(', ')}, which this cluster does not have`,
        )
      : derived
        ? verdict('Ready', true, 'Ready', `balanced by the Service ${derived.name}`)
        : verdict('Ready', false, 'Pending', 'the derived Service is not there yet');
  const wanted = [{ ...ready, observedGeneration: generation }];
  if (isSame(conditions, wanted) && clusters.join() === merged.clusters.join()) return [];
  return [
    {
      path: pathOf(api.serviceImports, { namespace, name, subresource: 'status' }),
      apply: {
        ...typeOf(api.serviceImports),
        metadata: { namespace, name },
        status: { clusters: merged.clusters.map(cluster => ({ cluster })) },
      },
      conditions: withSince(conditions, wanted),
    },
  ];
}

function exportStatusFix(
  { namespace, name, uid, generation, conditions }: ServiceExport,
  state: Pick<McsState, 'service' | 'isGlobal'>,
  merged: MergedService | undefined,
  { api, exporting }: McsOptions,
): ObjectFix[] {
  const wanted = exportVerdicts(state, merged, exporting).map(each => ({
    ...each,
    observedGeneration: generation,
  }));
  if (isSame(conditions, wanted)) return [];
  const bad = wanted.find(
    each =>
      (each.type === 'Valid' && each.status === 'False') ||
      (each.type === 'Conflict' && each.status === 'True'),
  );
  return [
    {
      path: pathOf(api.serviceExports, { namespace, name, subresource: 'status' }),
      apply: { ...typeOf(api.serviceExports), metadata: { namespace, name }, status: {} },
      conditions: withSince(conditions, wanted),
      ...(bad && {
        event: {
          subject: { ...typeOf(api.serviceExports), namespace, name, uid },
          reason: bad.reason,
          message: bad.message,
        },
      }),
    },
  ];
}

/** The conditions of a ServiceExport whose Service and merged service are these. */
export function exportVerdicts(
  { service, isGlobal }: Pick<McsState, 'service' | 'isGlobal'>,
  merged: MergedService | undefined,
  exporting: boolean,
): Verdict[] {
  const invalid = !isGlobal
    ? verdict('Valid', false, 'NamespaceNotGlobal', `nothing of it is exported: ${notGlobal}`)
    : !service
      ? verdict('Valid', false, 'NoService', 'there is no Service of this name in this namespace')
      : !isExportable(service)
        ? verdict(
            'Valid',
            false,
            'InvalidServiceType',
            'spec.type of the Service: found ExternalName, expected a Service with endpoints',
          )
        : undefined;
  if (invalid || !merged)
    return [
      ...(invalid ? [invalid] : []),
      verdict('Ready', false, 'Pending', 'it is not exported: see the condition Valid'),
    ];
  const [first] = merged.conflicts;
  return [
    verdict('Valid', true, 'Valid', 'the Service can be exported'),
    exporting
      ? verdict('Ready', true, 'Ready', 'the Service is exported')
      : verdict(
          'Ready',
          false,
          'Pending',
          'no other cluster hears of it: this one has no clustermesh-apiserver (isthmus clustermesh enable)',
        ),
    first
      ? verdict('Conflict', true, first.reason, merged.conflicts.map(each => each.message).join('. '))
      : verdict('Conflict', false, 'NoConflicts', 'all clusters that export it agree'),
  ];
}

type Present = ServiceExport['conditions'];
type Wanted = Verdict & { readonly observedGeneration: number };

/** Conditions of other types than ours are other writers', but for one that was ours before. */
const isSame = (present: Present, wanted: readonly Wanted[]): boolean =>
  wanted.every(each =>
    sameCondition(
      present.find(({ type }) => type === each.type),
      each,
    ),
  ) &&
  ours.every(type => wanted.some(each => each.type === type) || !present.some(each => each.type === type));
const ours = ['Valid', 'Ready', 'Conflict'];

const withSince = (present: Present, wanted: readonly Wanted[]): WantedCondition[] =>
  wanted.map(each => ({
    ...each,
    since: sinceOf(
      present.find(({ type }) => type === each.type),
      each.status,
    ),
  }));
