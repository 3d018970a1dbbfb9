import type { PodRow } from '../identity/pod.ts';
import type { ReadonlyTable } from '../table/table.ts';
import { endpointKey } from './endpoint.ts';
import type { Endpoints } from './endpoints.ts';

/** Gives endpoints that were recovered without their file the name of the pod that has their address. */
export function nameRecoveredEndpoints(endpoints: Endpoints, pods: ReadonlyTable<PodRow>): void {
  const name = (pod: PodRow): void => {
    if (pod.hostNetwork || pod.phase === 'Succeeded' || pod.phase === 'Failed') return;
    for (const address of pod.addresses)
      for (const endpoint of [...endpoints.table.by('address', address)])
        if (endpoint.podName === '')
          endpoints.namePod(endpointKey(endpoint), {
            namespace: pod.namespace,
            podName: pod.name,
            podUid: pod.uid,
          });
  };
  for (const pod of pods.values()) name(pod);
  pods.subscribe(({ after }) => {
    if (after) name(after);
  });
}
