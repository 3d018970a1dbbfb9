import * as z from 'zod';
import { firstAllocatable } from '../identity-number.ts';
import { formatLabels, type Labels } from '../labels.ts';
import { customResource, mapOf, text } from './custom-resource.ts';

/** A security identity: the object's name is its number, `security-labels` the labels it stands for. */
export const CiliumIdentity = z.object({
  metadata: z.object({
    name: z.string().regex(/^[1-9][0-9]{0,9}$/, 'expected a decimal identity number'),
    uid: z.string(),
    resourceVersion: z.string(),
    creationTimestamp: z.string().nullish(),
    annotations: z.record(z.string(), z.string()).nullish(),
  }),
  'security-labels': z.record(z.string(), z.string()),
});
export type CiliumIdentity = z.infer<typeof CiliumIdentity>;

/** The row an identity is known by inside a daemon. */
export interface IdentityRow {
  readonly identity: number;
  readonly labels: Labels;
  /** Canonical text of the labels: equal for equal sets. */
  readonly text: string;
  readonly uid: string;
  readonly resourceVersion: string;
  /** RFC 3339; '' when unknown. */
  readonly created: string;
  /** When the operator found it unused; RFC 3339, '' while in use. */
  readonly unusedSince: string;
}

/** Marks an identity nobody uses; it is removed if that is still so a while later. Cilium's heartbeat is the reverse. */
export const unusedAnnotation = 'isthmus.io/unused-since';

export function identityRow(object: CiliumIdentity): IdentityRow {
  const identity = Number(object.metadata.name);
  if (identity < firstAllocatable || identity > 0xffffff)
    throw new Error(`metadata.name: found ${identity}, expected ${firstAllocatable} to ${0xffffff}`);
  return {
    identity,
    labels: object['security-labels'],
    text: formatLabels(object['security-labels']),
    uid: object.metadata.uid,
    resourceVersion: object.metadata.resourceVersion,
    created: object.metadata.creationTimestamp ?? '',
    unusedSince: object.metadata.annotations?.[unusedAnnotation] ?? '',
  };
}

/** The object to create for a new identity. Kubernetes labels are repeated in metadata, for `kubectl get -l`. */
export function identityObject(identity: number, labels: Labels): object {
  const searchable = Object.entries(labels).flatMap(([name, value]) => {
    const key = name.startsWith('k8s:') ? name.slice(4) : '';
    return isLabelKey(key) && isLabelValue(value) ? [[key, value] as const] : [];
  });
  return {
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumIdentity',
    metadata: { name: String(identity), labels: Object.fromEntries(searchable) },
    'security-labels': labels,
  };
}

/** Namespace labels appear with a prefix in their key that Kubernetes would often refuse: those are left out. */
function isLabelKey(key: string): boolean {
  const slash = key.indexOf('/');
  const prefix = slash === -1 ? '' : key.slice(0, slash);
  const name = key.slice(slash + 1);
  const goodPrefix = slash === -1 || /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/.test(prefix);
  return goodPrefix && /^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/.test(name);
}

function isLabelValue(value: string): boolean {
  return value === '' || /^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/.test(value);
}

export const ciliumIdentityDefinition = customResource({
  kind: 'CiliumIdentity',
  plural: 'ciliumidentities',
  shortNames: ['ciliumid'],
  scope: 'Cluster',
  version: 'v2',
  statusSubresource: true,
  description: 'A security identity. Its name is the number, security-labels are the labels it stands for.',
  columns: [
    {
      name: 'Namespace',
      type: 'string',
      jsonPath: '.metadata.labels.io\\.kubernetes\\.pod\\.namespace',
      description: 'Namespace of the pods with this identity',
    },
    { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' },
  ],
  properties: { 'security-labels': mapOf(text) },
  required: ['security-labels'],
});
