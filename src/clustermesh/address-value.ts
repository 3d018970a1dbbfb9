import * as z from 'zod';

const text = z
  .string()
  .nullish()
  .transform(value => value ?? '');

/** What Cilium writes of an address (its IPIdentityPair). */
export const addressSchema = z.object({
  IP: z.string(),
  Mask: z.string().nullish(),
  HostIP: text,
  ID: z.int().min(0).default(0),
  Key: z.int().min(0).max(255).default(0),
  K8sNamespace: text,
  K8sPodName: text,
  K8sServiceAccount: text,
});
export type AddressValue = z.infer<typeof addressSchema>;

/** The same of a value with nothing wrong in it, in a fifth of the time; undefined: the schema has to say. */
export function plainAddress(value: unknown): AddressValue | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  const { IP, Mask, HostIP, ID, Key, K8sNamespace, K8sPodName, K8sServiceAccount } = value as Partial<
    Record<keyof AddressValue, unknown>
  >;
  const identity = ID === undefined ? 0 : ID;
  const encryption = Key === undefined ? 0 : Key;
  return typeof IP === 'string' &&
    isText(Mask) &&
    isText(HostIP) &&
    isText(K8sNamespace) &&
    isText(K8sPodName) &&
    isText(K8sServiceAccount) &&
    isNumber(identity, Number.MAX_SAFE_INTEGER) &&
    isNumber(encryption, 255)
    ? {
        IP,
        Mask,
        HostIP: HostIP ?? '',
        ID: identity,
        Key: encryption,
        K8sNamespace: K8sNamespace ?? '',
        K8sPodName: K8sPodName ?? '',
        K8sServiceAccount: K8sServiceAccount ?? '',
      }
    : undefined;
}

const isText = (value: unknown): value is string | null | undefined =>
  typeof value === 'string' || value === null || value === undefined;

const isNumber = (value: unknown, most: number): value is number =>
  Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= most;
