/**
 * Whether a namespace's services, endpoints and identities are for other clusters, too. `true` or `false` in any case
 * of letters; without it the cluster's default holds. Source: Cilium 1.19, `clustermesh.defaultGlobalNamespace`.
 */
export const globalNamespaceAnnotation = 'clustermesh.cilium.io/global';

export function isGlobalNamespace(
  annotations: Readonly<Record<string, string>> | null | undefined,
  byDefault: boolean,
): boolean {
  const said = annotations?.[globalNamespaceAnnotation];
  // As there, everything but `true` is a no.
  return said === undefined ? byDefault : said.toLowerCase() === 'true';
}
