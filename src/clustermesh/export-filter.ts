import { globalNamespaceAnnotation } from '../api/global-namespace.ts';
import { serviceKey } from '../api/service.ts';
import type { EventRecorder } from '../kube/events.ts';
import { derive, input } from '../table/derive.ts';
import type { ReadonlyTable } from '../table/table.ts';
import { BY_NAMESPACE, type ExportNamespace, type ExportSources, isOffered } from './export.ts';

/** A service that is meant for other clusters and that none of them knows: its namespace is not global. */
export interface FilteredService {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

type Sources = Pick<ExportSources, 'services' | 'namespaces'>;

/** By `namespace/name`. A namespace that is not known yet filters nothing. */
export function deriveFiltered({ services, namespaces }: Sources): ReadonlyTable<FilteredService> {
  return derive<FilteredService>({
    name: 'filtered-services',
    keyOf: serviceKey,
    equal: (a, b) => a.uid === b.uid,
    inputs: [
      input(services, row => [serviceKey(row)]),
      input(namespaces, function* ({ name }) {
        for (const row of services.by(BY_NAMESPACE, name)) yield serviceKey(row);
      }),
    ],
    compute: key => {
      const service = services.get(key);
      if (!service || namespaces.get(service.namespace)?.global !== false) return [];
      return isOffered(service) ? [service] : [];
    },
  });
}

/** An Event on each service that is filtered, and when it is no more; and on each namespace that says what nobody can obey. */
export function tellFiltered(
  { services, namespaces }: Sources,
  filtered: ReadonlyTable<FilteredService>,
  events: Pick<EventRecorder, 'say' | 'warn'>,
): void {
  filtered.subscribe(({ key, before, after }) => {
    if (before && after) return;
    const { namespace, name, uid } = (after ?? before)!;
    const subject = { apiVersion: 'v1', kind: 'Service', namespace, name, uid };
    if (after)
      return events.warn(
        subject,
        'NotExported',
        `other clusters know nothing of it, because its namespace is not global: expected annotation ${globalNamespaceAnnotation}=true on namespace ${namespace}`,
      );
    const service = services.get(key);
    if (service && isOffered(service)) events.say(subject, 'Exported', 'it is exported to other clusters');
  });
  namespaces.subscribe(({ before, after }) => {
    if (after?.problem !== undefined && after.problem !== before?.problem) tellProblem(after, events);
  });
}

function tellProblem({ name, uid, problem }: ExportNamespace, events: Pick<EventRecorder, 'warn'>): void {
  events.warn({ apiVersion: 'v1', kind: 'Namespace', name, uid }, 'InvalidNamespace', problem!);
}
