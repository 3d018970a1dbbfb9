/** The part of OpenAPI v3 a CustomResourceDefinition's schema is written in. */
export interface JsonSchema {
  readonly type?: 'object' | 'array' | 'string' | 'integer' | 'boolean';
  readonly format?: string;
  readonly description?: string;
  readonly enum?: readonly string[];
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly additionalProperties?: JsonSchema;
  readonly items?: JsonSchema;
  readonly required?: readonly string[];
  readonly 'x-kubernetes-preserve-unknown-fields'?: true;
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
  readonly version: string;
  readonly columns: readonly PrinterColumn[];
  /** True: status is written only through its own subresource. */
  readonly statusSubresource: boolean;
  readonly description: string;
  readonly properties: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
}

/** Orders the releases of our definitions: an operator never replaces a newer one. Raise it with every change. */
export const schemaVersion = 1;
export const schemaVersionAnnotation = 'isthmus.io/crd-version';

/** A CustomResourceDefinition (apiextensions.k8s.io/v1) ready to be applied. */
export interface CustomResourceDefinition {
  readonly apiVersion: 'apiextensions.k8s.io/v1';
  readonly kind: 'CustomResourceDefinition';
  readonly metadata: { readonly name: string; readonly annotations: Readonly<Record<string, string>> };
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
        {
          name: spec.version,
          served: true,
          storage: true,
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
        },
      ],
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
