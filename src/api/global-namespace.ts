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

/** What nobody can obey in the annotation; undefined where all is well. */
export function namespaceProblem(
  annotations: Readonly<Record<string, string>> | null | undefined,
): string | undefined {
  const said = annotations?.[globalNamespaceAnnotation];
  if (said === undefined || ['true', 'false'].includes(said.toLowerCase())) return undefined;
  return `annotation ${globalNamespaceAnnotation}: found ${JSON.stringify(said)}, expected true or false; it counts as false`;
}
