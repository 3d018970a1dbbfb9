import * as z from 'zod';
import { type PresentCondition, presentCondition } from './crds/load-balancer-ip-pool.ts';
import { formatIp, type IpAddress, parseIp } from './ip-address.ts';
import { serviceLabels } from './label-selector.ts';

/** The condition of a Service that says whether it has the addresses it asks for, as Cilium's. */
export const SATISFIED = 'cilium.io/IPAMRequestSatisfied';

/** Load balancer classes whose services get addresses here: none, and the announcer's. */
export const L2_CLASS = 'io.cilium/l2-announcer';

/**
 * The finalizer of a service that a load balancer was made for: it goes when the load balancer has gone. Source:
 * KEP-980, Finalizer Protection for Service LoadBalancers.
 */
export const CLEANUP_FINALIZER = 'service.kubernetes.io/load-balancer-cleanup';

/** What is read of a Service to give it addresses. */
export const LoadBalancerServiceObject = z.object({
  metadata: z.object({
    name: z.string(),
    namespace: z.string(),
    uid: z.string(),
    generation: z.number().default(0),
    creationTimestamp: z.string().default(''),
    labels: z.record(z.string(), z.string()).nullish(),
    annotations: z.record(z.string(), z.string()).nullish(),
    finalizers: z.array(z.string()).nullish(),
    deletionTimestamp: z.string().nullish(),
  }),
  spec: z.object({
    type: z.string().default('ClusterIP'),
    loadBalancerClass: z.string().nullish(),
    loadBalancerIP: z.string().nullish(),
    ipFamilies: z.array(z.string()).nullish(),
    ipFamilyPolicy: z.string().nullish(),
    externalTrafficPolicy: z.string().nullish(),
    selector: z.record(z.string(), z.string()).nullish(),
    ports: z.array(z.object({ port: z.number(), protocol: z.string().default('TCP') })).nullish(),
  }),
  status: z
    .object({
      loadBalancer: z
        .object({ ingress: z.array(z.object({ ip: z.string().optional() })).nullish() })
        .nullish(),
      conditions: z.array(presentCondition).nullish(),
    })
    .nullish(),
});

/** A service as far as its load balancer addresses are concerned. */
export interface LoadBalancerService {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly generation: number;
  /** RFC 3339: the oldest service is served first. */
  readonly created: string;
  /** Of type LoadBalancer, and of a class that gets its addresses here. */
  readonly ours: boolean;
  /** As `serviceLabels` gives them. */
  readonly labels: Readonly<Record<string, string>>;
  /** Families an address is wanted of where none is asked for by name. */
  readonly families: readonly (4 | 6)[];
  /** Addresses asked for, in their one text. Empty: any. */
  readonly requested: readonly string[];
  /** What cannot be understood of the request: the service gets nothing until it is put right. */
  readonly problem: string | undefined;
  /** '': shares its addresses with nobody. */
  readonly sharingKey: string;
  /** Namespaces it shares with beside its own; '*' is all. */
  readonly sharesWith: readonly string[];
  readonly externalTrafficPolicy: string;
  readonly selector: Readonly<Record<string, string>>;
  /** '80/TCP'. */
  readonly ports: readonly string[];
  /** Addresses in its status, in their one text; what is no address (a host name) is not among them. */
  readonly present: readonly string[];
  /** How many entries status.loadBalancer.ingress has. */
  readonly entries: number;
  readonly condition: PresentCondition | undefined;
  /** Has the finalizer of a load balancer, of whomever. */
  readonly finalizer: boolean;
  /** Somebody deleted it; it goes when its last finalizer does. */
  readonly deleting: boolean;
}

const annotations = {
  ips: ['lbipam.cilium.io/ips', 'io.cilium/lb-ipam-ips'],
  sharingKey: ['lbipam.cilium.io/sharing-key', 'io.cilium/lb-ipam-sharing-key'],
  sharesWith: ['lbipam.cilium.io/sharing-cross-namespace', 'io.cilium/lb-ipam-sharing-cross-namespace'],
} as const;

/** Flattens a Service. `enabled`: families the cluster has. Source: Cilium documentation, LB IPAM. */
export function loadBalancerService(
  { metadata, spec, status }: z.infer<typeof LoadBalancerServiceObject>,
  enabled: readonly (4 | 6)[],
): LoadBalancerService {
  const request = requestOf(metadata.annotations ?? {}, spec.loadBalancerIP ?? '');
  const ingress = status?.loadBalancer?.ingress ?? [];
  const of = (names: readonly string[]): string =>
    names.map(name => metadata.annotations?.[name]).find(value => value !== undefined) ?? '';
  return {
    namespace: metadata.namespace,
    name: metadata.name,
    uid: metadata.uid,
    generation: metadata.generation,
    created: metadata.creationTimestamp,
    ours:
      spec.type === 'LoadBalancer' && (spec.loadBalancerClass == null || spec.loadBalancerClass === L2_CLASS),
    labels: serviceLabels({ ...metadata, labels: metadata.labels ?? {} }),
    families: familiesOf(spec, enabled),
    requested: request.addresses,
    problem: request.problem,
    sharingKey: of(annotations.sharingKey),
    sharesWith: words(of(annotations.sharesWith)),
    externalTrafficPolicy: spec.externalTrafficPolicy ?? 'Cluster',
    selector: spec.selector ?? {},
    ports: (spec.ports ?? []).map(each => `${each.port}/${each.protocol}`),
    present: ingress.flatMap(each => canonical(each.ip ?? '') ?? []),
    entries: ingress.length,
    condition: status?.conditions?.find(each => each.type === SATISFIED),
    finalizer: metadata.finalizers?.includes(CLEANUP_FINALIZER) ?? false,
    deleting: metadata.deletionTimestamp != null,
  };
}

/** Another's load balancer may have set the finalizer: it is ours only where the condition says that the address is. */
export const isCleanupFinalizerOurs = ({ finalizer, condition }: LoadBalancerService): boolean =>
  finalizer && condition?.status === 'True';

/** `metadata` of a strategic merge patch. */
export const cleanupFinalizerPatch = {
  add: { finalizers: [CLEANUP_FINALIZER] },
  remove: { '$deleteFromPrimitiveList/finalizers': [CLEANUP_FINALIZER] },
} as const;

/** spec.loadBalancerIP first, then the annotation's, each once. */
function requestOf(
  present: Readonly<Record<string, string>>,
  loadBalancerIP: string,
): { readonly addresses: readonly string[]; readonly problem: string | undefined } {
  const annotation = annotations.ips.find(name => present[name] !== undefined && present[name] !== '');
  const asked: (readonly [field: string, value: string])[] = [
    ...words(loadBalancerIP).map(value => ['spec.loadBalancerIP', value] as const),
    ...words(annotation ? present[annotation]! : '').map(
      value => [`annotation ${annotation}`, value] as const,
    ),
  ];
  const bad = asked.find(([, value]) => parseIp(value) === undefined);
  return {
    addresses: [...new Set(asked.flatMap(([, value]) => canonical(value) ?? []))],
    problem: bad && `${bad[0]}: found "${bad[1]}", expected IP addresses separated by commas`,
  };
}

function familiesOf(
  spec: z.infer<typeof LoadBalancerServiceObject>['spec'],
  enabled: readonly (4 | 6)[],
): readonly (4 | 6)[] {
  const named = (spec.ipFamilies ?? []).flatMap(each =>
    each === 'IPv4' ? [4 as const] : each === 'IPv6' ? [6 as const] : [],
  );
  const wanted = named.length ? named : enabled;
  switch (spec.ipFamilyPolicy) {
    case 'RequireDualStack':
      return enabled;
    case 'PreferDualStack':
      return enabled.filter(each => wanted.includes(each));
    default:
      return wanted.slice(0, 1);
  }
}

function canonical(text: string): string | undefined {
  const ip: IpAddress | undefined = parseIp(text);
  return ip && formatIp(ip);
}

const words = (text: string): string[] =>
  text
    .split(',')
    .map(each => each.trim())
    .filter(each => each !== '');
