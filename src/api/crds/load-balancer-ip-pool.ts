import * as z from 'zod';
import { formatIp, type IpAddress, parseCidr, parseIp } from '../ip-address.ts';
import { compileSelector, labelSelector, type Selector } from '../label-selector.ts';
import { boolean, conditions, customResource, list, selector, text } from './custom-resource.ts';

/** Condition types of a pool's status, as Cilium's. */
export const poolConditions = {
  conflict: 'cilium.io/PoolConflict',
  total: 'cilium.io/IPsTotal',
  available: 'cilium.io/IPsAvailable',
  used: 'cilium.io/IPsUsed',
} as const;

/** A condition (meta/v1) as it stands in an object. */
export const presentCondition = z.object({
  type: z.string(),
  status: z.string(),
  reason: z.string().default(''),
  message: z.string().default(''),
  observedGeneration: z.number().optional(),
  lastTransitionTime: z.string().optional(),
});
export type PresentCondition = z.infer<typeof presentCondition>;

/** What is read of a CiliumLoadBalancerIPPool. */
export const CiliumLoadBalancerIPPool = z.object({
  metadata: z.object({
    name: z.string(),
    uid: z.string(),
    generation: z.number().default(0),
    creationTimestamp: z.string().default(''),
  }),
  spec: z.object({
    blocks: z
      .array(
        z.object({ cidr: z.string().nullish(), start: z.string().nullish(), stop: z.string().nullish() }),
      )
      .nullish(),
    serviceSelector: labelSelector.nullish(),
    disabled: z.boolean().nullish(),
    allowFirstLastIPs: z.enum(['Yes', 'No']).nullish(),
  }),
  status: z.object({ conditions: z.array(presentCondition).nullish() }).nullish(),
});

/** Addresses from `first` to `last`, both among them. */
export interface IpRange {
  readonly family: 4 | 6;
  readonly first: bigint;
  readonly last: bigint;
  /** First and last address are not given to services. */
  readonly endsReserved: boolean;
  /** As the user wrote it. */
  readonly text: string;
}

/** A pool's row. */
export interface PoolRow {
  readonly name: string;
  readonly uid: string;
  readonly generation: number;
  /** RFC 3339: of pools that overlap, the oldest has the addresses. */
  readonly created: string;
  /** No new address is given out of it. */
  readonly disabled: boolean;
  readonly ranges: readonly IpRange[];
  /** Over a service's labels as `serviceLabels` gives them. */
  readonly selects: Selector;
  /** `spec` as text: equal where nothing that decides about addresses has changed. */
  readonly spec: string;
  /** What cannot be understood in `spec`; those blocks, or the whole pool, are left out. */
  readonly problems: readonly string[];
  readonly conditions: readonly PresentCondition[];
}

/** Flattens a parsed pool. A block that is no range is a problem of the pool, and left out. */
export function poolRow({ metadata, spec, status }: z.infer<typeof CiliumLoadBalancerIPPool>): PoolRow {
  const problems: string[] = [];
  const reserve = spec.allowFirstLastIPs === 'No';
  const ranges = (spec.blocks ?? []).flatMap((block, at) => {
    const range = rangeOf(block, reserve);
    if (typeof range !== 'string') return [range];
    problems.push(`spec.blocks[${at}]: ${range}`);
    return [];
  });
  let selects: Selector = () => false;
  try {
    selects = compileSelector(spec.serviceSelector, 'spec.serviceSelector');
  } catch (error) {
    problems.push(`${error instanceof Error ? error.message : error}; it selects no service`);
  }
  return {
    name: metadata.name,
    uid: metadata.uid,
    generation: metadata.generation,
    created: metadata.creationTimestamp,
    disabled: spec.disabled === true,
    ranges,
    selects,
    spec: JSON.stringify(spec),
    problems,
    conditions: status?.conditions ?? [],
  };
}

type Block = NonNullable<z.infer<typeof CiliumLoadBalancerIPPool>['spec']['blocks']>[number];

/** The range, or what is wrong with the block. */
function rangeOf({ cidr, start, stop }: Block, reserve: boolean): IpRange | string {
  if (cidr) {
    if (start || stop) return 'found cidr beside start or stop, expected one of the two';
    const range = parseCidr(cidr);
    if (!range) return `cidr: found "${cidr}", expected a prefix such as 192.0.2.0/24`;
    const { first, last } = range;
    // A block of one or two addresses would have none left.
    const endsReserved = reserve && last.value - first.value > 1n;
    return { family: first.family, first: first.value, last: last.value, endsReserved, text: cidr };
  }
  if (!start) return 'found neither cidr nor start';
  const first = parseIp(start);
  if (!first) return `start: found "${start}", expected an IP address`;
  const last = stop ? parseIp(stop) : first;
  if (!last) return `stop: found "${stop}", expected an IP address`;
  if (last.family !== first.family) return `found start ${start} and stop ${stop}, expected one family`;
  if (last.value < first.value) return `found start ${start} behind stop ${stop}`;
  const text = first.value === last.value ? formatIp(first) : `${formatIp(first)} - ${formatIp(last)}`;
  return { family: first.family, first: first.value, last: last.value, endsReserved: false, text };
}

export const inRange = (range: IpRange, { family, value }: IpAddress): boolean =>
  range.family === family && value >= range.first && value <= range.last;

export const loadBalancerIPPoolDefinition = customResource({
  kind: 'CiliumLoadBalancerIPPool',
  plural: 'ciliumloadbalancerippools',
  shortNames: ['ippools', 'ippool', 'lbippool', 'lbippools'],
  scope: 'Cluster',
  version: 'v2',
  deprecatedVersions: ['v2alpha1'],
  statusSubresource: true,
  description: 'Addresses that services of type LoadBalancer get. Schema of Cilium 1.20.',
  columns: [
    { name: 'Disabled', type: 'boolean', jsonPath: '.spec.disabled' },
    {
      name: 'Conflicting',
      type: 'string',
      jsonPath: `.status.conditions[?(@.type=="${poolConditions.conflict}")].status`,
    },
    {
      name: 'IPs Available',
      type: 'string',
      jsonPath: `.status.conditions[?(@.type=="${poolConditions.available}")].message`,
    },
    { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' },
  ],
  required: ['spec'],
  properties: {
    spec: {
      type: 'object',
      properties: {
        allowFirstLastIPs: {
          type: 'string',
          enum: ['Yes', 'No'],
          description: 'No: first and last address of each cidr longer than two are not given to services.',
        },
        blocks: list({
          type: 'object',
          properties: { cidr: { type: 'string', format: 'cidr' }, start: text, stop: text },
        }),
        disabled: {
          ...boolean,
          default: false,
          description: 'No new address is given out of it; services keep those they have.',
        },
        serviceSelector: selector,
      },
    },
    status: { type: 'object', properties: { conditions } },
  },
});
