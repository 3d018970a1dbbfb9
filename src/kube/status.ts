import * as z from 'zod';

/** Kubernetes' meta/v1 Status: what the API server answers instead of an object when it refuses. */
export const Status = z.object({
  kind: z.literal('Status'),
  code: z.number().optional(),
  reason: z.string().optional(),
  message: z.string().optional(),
  details: z
    .object({
      group: z.string().optional(),
      kind: z.string().optional(),
      name: z.string().optional(),
      retryAfterSeconds: z.number().optional(),
    })
    .optional(),
});
export type Status = z.infer<typeof Status>;

/** The API server refused a request. `status` is its own account of why, where it gave one. */
export class KubeError extends Error {
  override readonly name = 'KubeError';
  /** HTTP status code, or the code in the Status of a watch's ERROR event. */
  readonly code: number;
  readonly reason: string;
  readonly status: Status | undefined;
  /** Milliseconds the server asks us to wait, if it does. */
  readonly retryAfter: number | undefined;

  constructor(request: string, code: number, body: unknown, retryAfterSeconds?: number) {
    const status = Status.safeParse(body).data;
    const said = status?.message ?? (typeof body === 'string' ? body.trim().slice(0, 300) : '');
    super(`${request}: ${code}${status?.reason ? ` ${status.reason}` : ''}${said ? `: ${said}` : ''}`);
    this.code = code;
    this.reason = status?.reason ?? '';
    this.status = status;
    const seconds = retryAfterSeconds ?? status?.details?.retryAfterSeconds;
    this.retryAfter = seconds === undefined ? undefined : seconds * 1000;
  }
}

/** The object (or the whole resource, before its CRD is there) does not exist. */
export function isNotFound(error: unknown): boolean {
  return error instanceof KubeError && error.code === 404;
}

/** Someone changed the object since it was read, or a server-side apply met another owner. */
export function isConflict(error: unknown): boolean {
  return error instanceof KubeError && error.code === 409 && error.reason !== 'AlreadyExists';
}

/** An object of that name is there already. */
export function isAlreadyExists(error: unknown): boolean {
  return error instanceof KubeError && error.code === 409 && error.reason === 'AlreadyExists';
}

/** The resource version (or continue token) is too old: list again. */
export function isExpired(error: unknown): boolean {
  return error instanceof KubeError && (error.code === 410 || error.reason === 'Expired');
}

/** The object, or what a patch makes of it, is not acceptable; also a JSON patch whose test fails. */
export function isInvalid(error: unknown): boolean {
  return error instanceof KubeError && error.code === 422;
}

/** RBAC does not allow the request; waiting does not help by itself. */
export function isForbidden(error: unknown): boolean {
  return error instanceof KubeError && error.code === 403;
}

/** Nothing new can be made in a namespace that is being deleted. */
export function isBeingTerminated(error: unknown): boolean {
  return isForbidden(error) && /because it is being terminated/.test((error as KubeError).message);
}
