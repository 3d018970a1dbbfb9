/** The part of OpenAPI v3 a CustomResourceDefinition's schema is written in. */
export interface JsonSchema {
  readonly type?: 'object' | 'array' | 'string' | 'integer' | 'boolean';
  readonly format?: string;
  readonly description?: string;
  readonly enum?: readonly string[];
  readonly default?: boolean | string;
  readonly pattern?: string;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minimum?: number;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly additionalProperties?: JsonSchema;
  readonly items?: JsonSchema;
  readonly required?: readonly string[];
  readonly 'x-kubernetes-preserve-unknown-fields'?: true;
  readonly 'x-kubernetes-list-type'?: 'map' | 'atomic';
  readonly 'x-kubernetes-list-map-keys'?: readonly string[];
  readonly 'x-kubernetes-map-type'?: 'atomic';
}

export interface PrinterColumn {
  readonly name: string;
  readonly type: 'string' | 'integer' | 'date' | 'boolean';
  readonly jsonPath: string;
  readonly description?: string;
  readonly priority?: number;
}

export interface CustomResourceSpec {
  readonly kind: string;
  readonly plural: string;
  readonly shortNames: readonly string[];
  readonly scope: 'Namespaced' | 'Cluster';
  /** The version objects are kept in. */
  readonly version: string;
  /** Older versions of the same schema that are served as well. */
  readonly deprecatedVersions?: readonly string[];
  readonly columns: readonly PrinterColumn[];
  /** True: status is written only through its own subresource. */
  readonly statusSubresource: boolean;
  readonly description: string;
  readonly properties: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
}

/** Orders the releases of our definitions: an operator never replaces a newer one. Raise it with every change. */
export const schemaVersion = 2;
export const schemaVersionAnnotation = 'isthmus.io/crd-version';

/** A CustomResourceDefinition (apiextensions.k8s.io/v1) ready to be applied. */
export interface CustomResourceDefinition {
  readonly apiVersion: 'apiextensions.k8s.io/v1';
  readonly kind: 'CustomResourceDefinition';
  readonly metadata: {
    readonly name: string;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly labels?: Readonly<Record<string, string>>;
  };
  readonly spec: object;
}

export function customResource(spec: CustomResourceSpec): CustomResourceDefinition {
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: {
      name: `${spec.plural}.cilium.io`,
      annotations: { [schemaVersionAnnotation]: String(schemaVersion) },
    },
    spec: {
      group: 'cilium.io',
      scope: spec.scope,
      names: {
        kind: spec.kind,
        listKind: `${spec.kind}List`,
        plural: spec.plural,
        singular: spec.kind.toLowerCase(),
        shortNames: spec.shortNames,
        categories: ['cilium'],
      },
      versions: [
        versionOf(spec, spec.version),
        ...(spec.deprecatedVersions ?? []).map(version => versionOf(spec, version)),
      ],
    },
  };
}

function versionOf(spec: CustomResourceSpec, name: string): object {
  const current = name === spec.version;
  return {
    name,
    served: true,
    storage: current,
    ...(current ? {} : { deprecated: true }),
    additionalPrinterColumns: spec.columns,
    ...(spec.statusSubresource ? { subresources: { status: {} } } : {}),
    schema: {
      openAPIV3Schema: {
        type: 'object',
        description: spec.description,
        required: ['metadata', ...(spec.required ?? [])],
        properties: {
          apiVersion: { type: 'string' },
          kind: { type: 'string' },
          metadata: { type: 'object' },
          ...spec.properties,
        },
      },
    },
  };
}

export const text: JsonSchema = { type: 'string' };
export const integer: JsonSchema = { type: 'integer' };
export const long: JsonSchema = { type: 'integer', format: 'int64' };
export const boolean: JsonSchema = { type: 'boolean' };

export function list(items: JsonSchema): JsonSchema {
  return { type: 'array', items };
}

export function mapOf(additionalProperties: JsonSchema): JsonSchema {
  return { type: 'object', additionalProperties };
}

/** An object whose other fields (of Cilium's schema, or of a later release) are kept as they are. */
export function open(
  properties: Readonly<Record<string, JsonSchema>>,
  required?: readonly string[],
): JsonSchema {
  return {
    type: 'object',
    properties,
    ...(required ? { required } : {}),
    'x-kubernetes-preserve-unknown-fields': true,
  };
}

/** A LabelSelector of meta/v1. */
export const selector: JsonSchema = {
  type: 'object',
  properties: {
    matchExpressions: {
      type: 'array',
      items: {
        type: 'object',
        required: ['key', 'operator'],
        properties: {
          key: text,
          operator: { type: 'string', enum: ['In', 'NotIn', 'Exists', 'DoesNotExist'] },
          values: { type: 'array', items: text, 'x-kubernetes-list-type': 'atomic' },
        },
      },
      'x-kubernetes-list-type': 'atomic',
    },
    matchLabels: {
      type: 'object',
      additionalProperties: {
        type: 'string',
        maxLength: 63,
        pattern: '^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$',
      },
    },
  },
  'x-kubernetes-map-type': 'atomic',
};

/** A list of meta/v1 Conditions, one of a type. */
export const conditions: JsonSchema = {
  type: 'array',
  items: {
    type: 'object',
    required: ['lastTransitionTime', 'message', 'reason', 'status', 'type'],
    properties: {
      lastTransitionTime: { type: 'string', format: 'date-time' },
      message: { type: 'string', maxLength: 32_768 },
      observedGeneration: { type: 'integer', format: 'int64', minimum: 0 },
      reason: { type: 'string', minLength: 1, maxLength: 1024 },
      status: { type: 'string', enum: ['True', 'False', 'Unknown'] },
      type: { type: 'string', maxLength: 316 },
    },
  },
  'x-kubernetes-list-type': 'map',
  'x-kubernetes-list-map-keys': ['type'],
};
