import * as z from 'zod';

/** A Kubernetes LabelSelector (meta/v1) as objects carry it. */
export const labelSelector = z.object({
  matchLabels: z.record(z.string(), z.string()).nullish(),
  matchExpressions: z
    .array(
      z.object({
        key: z.string(),
        operator: z.enum(['In', 'NotIn', 'Exists', 'DoesNotExist']),
        values: z.array(z.string()).nullish(),
      }),
    )
    .nullish(),
});

/** Says whether labels are selected. */
export type Selector = (labels: Readonly<Record<string, string>>) => boolean;

/**
 * What a selector selects; an absent or empty one selects everything. Throws with `field` in the message where
 * an operator and its values do not fit (Kubernetes API conventions, label selectors).
 */
export function compileSelector(
  selector: z.infer<typeof labelSelector> | null | undefined,
  field: string,
): Selector {
  const tests: Selector[] = Object.entries(selector?.matchLabels ?? {}).map(
    ([key, value]) =>
      labels =>
        labels[key] === value,
  );
  for (const [at, { key, operator, values }] of (selector?.matchExpressions ?? []).entries()) {
    const set = new Set(values ?? []);
    const takesValues = operator === 'In' || operator === 'NotIn';
    if (takesValues !== set.size > 0)
      throw new Error(
        `${field}.matchExpressions[${at}].values: found ${set.size} values, expected ${takesValues ? 'at least one' : 'none'} with operator ${operator}`,
      );
    const present: Selector = labels => Object.hasOwn(labels, key);
    const among: Selector = labels => present(labels) && set.has(labels[key]!);
    tests.push(
      {
        In: among,
        NotIn: (labels: Readonly<Record<string, string>>) => !among(labels),
        Exists: present,
        DoesNotExist: (labels: Readonly<Record<string, string>>) => !present(labels),
      }[operator],
    );
  }
  return labels => tests.every(test => test(labels));
}

/**
 * A service's labels with the two that Cilium's selectors of services know beside them: its name and namespace
 * (Cilium documentation, LB IPAM, "Service Selectors").
 */
export function serviceLabels(service: {
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}): Readonly<Record<string, string>> {
  return {
    ...service.labels,
    'io.kubernetes.service.namespace': service.namespace,
    'io.kubernetes.service.name': service.name,
  };
}
