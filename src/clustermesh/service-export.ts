import * as z from 'zod';
import type { ExportedService } from '../mcsapi/exported-service.ts';
import { BadValue, parseJson } from './bad-value.ts';
import type { Origin } from './values.ts';

/**
 * The value of `cilium/state/serviceexports/v1/<cluster>/<namespace>/<name>`, as Cilium writes and reads it. Releases
 * before 1.19 have labels and annotations under names with a capital letter; both are written.
 */

const strings = z.record(z.string(), z.string()).nullish();
/** A namespace's or a Service's name (RFC 1123): other clusters make objects of this name. */
const label = z
  .string()
  .regex(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/, { error: "1 to 63 of a-z, 0-9 and '-'" });
const oneOf = <const T extends readonly string[]>(...values: T) =>
  z.enum(values, { error: `one of ${values.join(', ')}` });

const schema = z.object({
  cluster: z.string(),
  name: label,
  namespace: label,
  labels: strings,
  annotations: strings,
  Labels: strings,
  Annotations: strings,
  exportCreationTimestamp: z.iso.datetime({ offset: true, error: 'a time as 2026-02-03T04:05:06Z' }),
  ports: z
    .array(
      z.object({
        name: z.string().nullish(),
        protocol: oneOf('TCP', 'UDP', 'SCTP').nullish(),
        appProtocol: z.string().nullish(),
        port: z.int().min(1).max(65535),
      }),
    )
    .nullish(),
  type: oneOf('ClusterSetIP', 'Headless'),
  sessionAffinity: oneOf('ClientIP', 'None'),
  sessionAffinityConfig: z
    .object({ clientIP: z.object({ timeoutSeconds: z.int().min(1).max(86_400).nullish() }).nullish() })
    .nullish(),
  ipFamilies: z.array(oneOf('IPv4', 'IPv6')).max(2).nullish(),
  internalTrafficPolicy: oneOf('Cluster', 'Local').nullish(),
  trafficDistribution: oneOf('PreferClose', 'PreferSameZone', 'PreferSameNode').nullish(),
});

/** What an API server takes: an object with anything else in it would be refused whole. */
const labelValue = /^(?=.{0,63}$)([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$/;
const qualifiedName =
  /^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;

/** @throws BadValue */
export function parseServiceExport(
  key: string,
  rest: string,
  value: string,
  origin: Origin,
): ExportedService {
  const found = parseJson(key, value, schema);
  const name = `${found.namespace}/${found.name}`;
  if (found.cluster !== origin.cluster)
    throw new BadValue(key, 'cluster', found.cluster, JSON.stringify(origin.cluster));
  if (name !== rest) throw new BadValue(key, 'namespace/name', name, JSON.stringify(rest));
  const map = (of: Record<string, string> | null | undefined, older: typeof of): Record<string, string> =>
    (of && Object.keys(of).length ? of : older) ?? {};
  const labels = map(found.labels, found.Labels);
  const annotations = map(found.annotations, found.Annotations);
  for (const [label, text] of Object.entries(labels)) {
    if (!qualifiedName.test(label)) throw new BadValue(key, 'labels', label, 'the name of a label');
    if (!labelValue.test(text)) throw new BadValue(key, 'labels', text, 'the value of a label');
  }
  for (const annotation of Object.keys(annotations))
    if (!qualifiedName.test(annotation))
      throw new BadValue(key, 'annotations', annotation, 'the name of an annotation');
  return {
    cluster: found.cluster,
    namespace: found.namespace,
    name: found.name,
    created: found.exportCreationTimestamp,
    ports: (found.ports ?? []).map(each => ({
      name: each.name ?? '',
      protocol: each.protocol ?? 'TCP',
      appProtocol: each.appProtocol ?? '',
      port: each.port,
    })),
    type: found.type,
    sessionAffinity: found.sessionAffinity,
    affinityTimeout: found.sessionAffinityConfig?.clientIP?.timeoutSeconds ?? undefined,
    ipFamilies: found.ipFamilies ?? [],
    internalTrafficPolicy: found.internalTrafficPolicy ?? 'Cluster',
    trafficDistribution: found.trafficDistribution ?? undefined,
    labels,
    annotations,
  };
}

export function formatServiceExport(row: ExportedService): string {
  const labels = Object.keys(row.labels).length ? row.labels : undefined;
  const annotations = Object.keys(row.annotations).length ? row.annotations : undefined;
  return JSON.stringify({
    cluster: row.cluster,
    name: row.name,
    namespace: row.namespace,
    annotations,
    labels,
    Labels: labels,
    Annotations: annotations,
    exportCreationTimestamp: row.created,
    ports: row.ports.map(({ name, protocol, appProtocol, port }) => ({
      name: name || undefined,
      protocol,
      appProtocol: appProtocol || undefined,
      port,
    })),
    type: row.type,
    sessionAffinity: row.sessionAffinity,
    sessionAffinityConfig:
      row.affinityTimeout === undefined ? undefined : { clientIP: { timeoutSeconds: row.affinityTimeout } },
    ipFamilies: row.ipFamilies.length ? row.ipFamilies : undefined,
    internalTrafficPolicy: row.internalTrafficPolicy,
    trafficDistribution: row.trafficDistribution,
  });
}
