import * as z from 'zod';
import type { RemotePart } from '../loadbalancer/remote-service.ts';
import { Interned } from '../table/interned.ts';
import { isRecord, parseValue } from './bad-value.ts';

const ports = z.record(
  z.string(),
  z.object({
    Protocol: z.enum(['TCP', 'UDP', 'SCTP'], { error: 'TCP, UDP or SCTP' }),
    Port: z.int().min(0).max(65535),
  }),
);
/** Address → ports, which {@link portsOf} looks at: there are few different ones, and many addresses. */
const backendPorts = z.record(z.string(), z.unknown()).nullish();

/** What Cilium writes of a service (its ClusterService). */
export const serviceSchema = z.object({
  cluster: z.string(),
  namespace: z.string(),
  name: z.string(),
  frontends: z.record(z.string(), ports).nullish(),
  backends: backendPorts,
  // Ours; Cilium has no such fields, and its readers pass over them.
  terminating: backendPorts,
  notReady: backendPorts,
  hostnames: z.record(z.string(), z.string()).nullish(),
  shared: z.boolean().default(false),
  clusterID: z.int().default(0),
});
export type ServiceValue = z.infer<typeof serviceSchema>;

/** The same of a value with nothing unusual in it, in a fifth of the time; undefined: the schema has to say. */
export function plainService(value: unknown): ServiceValue | undefined {
  if (!isRecord(value)) return undefined;
  const { cluster, namespace, name, frontends, backends, terminating, notReady, hostnames } = value;
  const shared = value.shared === undefined ? false : value.shared;
  const clusterID = value.clusterID === undefined ? 0 : value.clusterID;
  return typeof cluster === 'string' &&
    typeof namespace === 'string' &&
    typeof name === 'string' &&
    typeof shared === 'boolean' &&
    typeof clusterID === 'number' &&
    Number.isSafeInteger(clusterID) &&
    hasPlainPorts(frontends) &&
    isBackends(backends) &&
    isBackends(terminating) &&
    isBackends(notReady) &&
    (hostnames === undefined || hostnames === null)
    ? {
        cluster,
        namespace,
        name,
        frontends,
        backends,
        terminating,
        notReady,
        hostnames,
        shared,
        clusterID,
      }
    : undefined;
}

const isBackends = (value: unknown): value is Record<string, unknown> | null | undefined =>
  value === undefined || value === null || isRecord(value);

const hasPlainPorts = (value: unknown): value is ServiceValue['frontends'] =>
  isBackends(value) &&
  Object.values(value ?? {}).every(each => isRecord(each) && Object.values(each).every(isPlainPort));

/** With nothing in it that the schema would leave out. */
const isPlainPort = (value: unknown): boolean =>
  isRecord(value) &&
  Object.keys(value).length === 2 &&
  (value.Protocol === 'TCP' || value.Protocol === 'UDP' || value.Protocol === 'SCTP') &&
  Number.isInteger(value.Port) &&
  (value.Port as number) >= 0 &&
  (value.Port as number) <= 65_535;

/** Nearly all backends have the ports of many others: each text is checked once, and is one object. */
const known = new Interned<RemotePart[string]>();

/** The ports of one address. @throws BadValue */
export function portsOf(key: string, field: string, value: unknown): RemotePart[string] {
  return known.of(JSON.stringify(value), () => {
    const parsed = parseValue(key, value, ports, field);
    return Object.fromEntries(
      Object.entries(parsed).map(([name, { Protocol, Port }]) => [name, { protocol: Protocol, port: Port }]),
    );
  });
}
