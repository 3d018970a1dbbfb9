import type { Affinity } from '../api/annotations.ts';
import type { BackendList } from './backend-list.ts';

/**
 * Which of the backends that match a frontend may be used, given where the service prefers to go.
 * Local ones come first in the result, in their given order. Remote backends are passed only for
 * global services. Rules as in Cilium's load balancer:
 * - none: all;
 * - local: local ones; remote ones as well where no local one is active and a remote one is healthy;
 * - remote: remote ones; local ones as well where no remote one is active and a local one is healthy. (To Cilium a
 *   remote backend that is healthy is active; ours say that they terminate.)
 */
export function preferByAffinity(affinity: Affinity, local: BackendList, remote: BackendList): BackendList {
  if (affinity === 'none') return local.concat(remote);
  if (affinity === 'local') return !local.has('active') && isHealthy(remote) ? local.concat(remote) : local;
  return !remote.has('active') && isHealthy(local) ? local.concat(remote) : remote;
}

const isHealthy = (list: BackendList): boolean => list.has('active') || list.has('terminating');

/** New connections go to active backends; to terminating ones only if none is active; never to unhealthy ones. */
export function usable(backends: BackendList): BackendList {
  return backends.only(backends.has('active') ? 'active' : 'terminating');
}
