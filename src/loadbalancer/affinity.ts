import type { Affinity } from '../api/annotations.ts';
import type { Backend } from './backend.ts';

/**
 * Which of the backends that match a frontend may be used, given where the service prefers to go.
 * Local ones come first in the result, in their given order. Remote backends are passed only for
 * global services. Rules as in Cilium's load balancer:
 * - none: all;
 * - local: local ones; remote ones as well where no local one is active and a remote one is healthy;
 * - remote: remote ones; local ones as well where no remote one is active and a local one is healthy. (To Cilium a
 *   remote backend that is healthy is active; ours say that they terminate.)
 */
export function preferByAffinity(
  affinity: Affinity,
  local: readonly Backend[],
  remote: readonly Backend[],
): readonly Backend[] {
  if (affinity === 'none') return concat(local, remote);
  const remoteHealthy = remote.some(each => each.state !== 'unhealthy');
  if (affinity === 'local') {
    const localActive = local.some(each => each.state === 'active');
    return !localActive && remoteHealthy ? concat(local, remote) : local;
  }
  const localHealthy = local.some(each => each.state !== 'unhealthy');
  const remoteActive = remote.some(each => each.state === 'active');
  return !remoteActive && localHealthy ? concat(local, remote) : remote;
}

/** New connections go to active backends; to terminating ones only if none is active; never to unhealthy ones. */
export function usable(backends: readonly Backend[]): readonly Backend[] {
  const isActive = (backend: Backend): boolean => backend.state === 'active';
  // Nearly always all are, and there may be ten thousand.
  if (backends.every(isActive)) return backends;
  const active = backends.filter(isActive);
  return active.length ? active : backends.filter(each => each.state === 'terminating');
}

function concat(a: readonly Backend[], b: readonly Backend[]): readonly Backend[] {
  return b.length === 0 ? a : a.length === 0 ? b : [...a, ...b];
}
