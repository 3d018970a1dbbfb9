import * as z from 'zod';
import { compileSelector, labelSelector, type Selector } from '../label-selector.ts';
import { boolean, conditions, customResource, list, selector, text } from './custom-resource.ts';

/** What is read of a CiliumL2AnnouncementPolicy. */
export const CiliumL2AnnouncementPolicy = z.object({
  metadata: z.object({ name: z.string() }),
  spec: z
    .object({
      serviceSelector: labelSelector.nullish(),
      nodeSelector: labelSelector.nullish(),
      interfaces: z.array(z.string()).nullish(),
      externalIPs: z.boolean().nullish(),
      loadBalancerIPs: z.boolean().nullish(),
    })
    .nullish(),
});

/** A policy's row: which addresses of which services which nodes answer for, on which devices. */
export interface L2PolicyRow {
  readonly name: string;
  /** Over a service's labels as `serviceLabels` gives them. */
  readonly selectsService: Selector;
  readonly selectsNode: Selector;
  readonly selectsInterface: (name: string) => boolean;
  readonly externalIPs: boolean;
  readonly loadBalancerIPs: boolean;
  /** `spec` as text: equal where the policy is. */
  readonly spec: string;
}

/** Flattens a parsed policy. Throws where a selector or an expression is wrong: the policy is then left out. */
export function l2PolicyRow({ metadata, spec }: z.infer<typeof CiliumL2AnnouncementPolicy>): L2PolicyRow {
  const expressions = (spec?.interfaces ?? []).map((each, at) => {
    try {
      return new RegExp(each);
    } catch {
      throw new Error(`spec.interfaces[${at}]: found "${each}", expected a regular expression`);
    }
  });
  return {
    name: metadata.name,
    selectsService: compileSelector(spec?.serviceSelector, 'spec.serviceSelector'),
    selectsNode: compileSelector(spec?.nodeSelector, 'spec.nodeSelector'),
    selectsInterface: name => expressions.length === 0 || expressions.some(each => each.test(name)),
    externalIPs: spec?.externalIPs === true,
    loadBalancerIPs: spec?.loadBalancerIPs === true,
    spec: JSON.stringify(spec ?? {}),
  };
}

export const l2AnnouncementPolicyDefinition = customResource({
  kind: 'CiliumL2AnnouncementPolicy',
  plural: 'ciliuml2announcementpolicies',
  shortNames: ['l2announcement'],
  scope: 'Cluster',
  version: 'v2alpha1',
  statusSubresource: true,
  description: 'Nodes that answer for addresses of services on their links. Schema of Cilium 1.20.',
  columns: [{ name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' }],
  properties: {
    spec: {
      type: 'object',
      properties: {
        externalIPs: { ...boolean, description: 'Answer for spec.externalIPs of services.' },
        interfaces: {
          ...list(text),
          description: 'Regular expressions over names of devices; none: all devices.',
        },
        loadBalancerIPs: { ...boolean, description: 'Answer for load balancer addresses of services.' },
        nodeSelector: selector,
        serviceSelector: selector,
      },
    },
    status: { type: 'object', properties: { conditions } },
  },
});
