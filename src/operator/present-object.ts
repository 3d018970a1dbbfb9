import * as z from 'zod';

/** What is read of the metadata of an object that the operator keeps. */
export const presentMetadata = z.object({
  name: z.string(),
  namespace: z.string(),
  uid: z.string().default(''),
  labels: z.record(z.string(), z.string()).nullish(),
  annotations: z.record(z.string(), z.string()).nullish(),
  ownerReferences: z.array(z.object({ uid: z.string() })).nullish(),
});

/** An object that the operator keeps, as it is. */
export interface PresentObject {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly labels: Readonly<Record<string, string>>;
  /** What is compared of it: two of equal text need no change. */
  readonly text: string;
}

/** The row of an object, with `content` as what is compared of it beside labels, annotations and owner. */
export function presentObject(metadata: z.infer<typeof presentMetadata>, content: unknown): PresentObject {
  const { namespace, name, uid, labels, annotations, ownerReferences } = metadata;
  return {
    namespace,
    name,
    uid,
    labels: labels ?? {},
    text: JSON.stringify([
      ordered(labels),
      ordered(annotations),
      ownerReferences?.map(each => each.uid) ?? [],
      content,
    ]),
  };
}

const ordered = (map: Readonly<Record<string, string>> | null | undefined): (readonly [string, string])[] =>
  Object.entries(map ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
