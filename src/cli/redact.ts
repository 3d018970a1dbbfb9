/** Takes secrets out of what goes into a bug report. Pure. */

const REDACTED = '<redacted>';

/** Names of settings whose values are nobody's business. */
const SENSITIVE = /pass(word|wd|phrase)|secret|token|credential|private[-_]?key|api[-_]?key|authorization/i;

const patterns: readonly (readonly [RegExp, string])[] = [
  // PEM, also as one line with \n in it, and also without an end where a log has cut it off.
  [
    /-----BEGIN [A-Z ]*PRIVATE KEY-----(?:(?!-----END)[\s\S])*(?:-----END [A-Z ]*PRIVATE KEY-----|$)/g,
    `${REDACTED} private key`,
  ],
  // The same in base64, whatever its offset: as Secrets carry it.
  [/LS0tLS1CRUdJTi[A-Za-z0-9+/=]{20,}/g, `${REDACTED} PEM`],
  // JSON Web Tokens: of service accounts, of OIDC.
  [/eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}/g, `${REDACTED} token`],
  [/\b(bearer|basic)[ \t]+[A-Za-z0-9._~+/=-]{8,}/gi, `$1 ${REDACTED}`],
  // https://user:password@host
  [/(:\/\/[^/\s:@]+:)[^/\s@]+@/g, `$1${REDACTED}@`],
  // password=…, "token":"…", --secret …
  [
    /((?:^|[\s"'{,&?-])[A-Za-z_-]*(?:password|passwd|passphrase|secret|token|credential|api[-_]?key)["']?(?:[ \t]*[:=][ \t]*|[ \t]+)["']?)([^\s"',;}{[\]<]{6,})/gi,
    `$1${REDACTED}`,
  ],
];

/** Text without keys, tokens and passwords. */
export function redactText(text: string): string {
  return patterns.reduce((rest, [pattern, instead]) => rest.replace(pattern, instead), text);
}

/** Annotation in which kubectl keeps the whole object as it was applied. */
const LAST_APPLIED = 'kubectl.kubernetes.io/last-applied-configuration';

/** An object of the API server without what is noise or could be secret: values of a container's environment, too. */
export function redactObject(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(redactObject);
  if (typeof value === 'string') return redactText(value);
  if (typeof value !== 'object' || value === null) return value;
  const out: Record<string, unknown> = {};
  for (const [name, part] of Object.entries(value)) {
    if (name === 'managedFields' || name === LAST_APPLIED) continue;
    if (name === 'env' && Array.isArray(part)) out[name] = part.map(redactVariable);
    else if (SENSITIVE.test(name) && typeof part === 'string' && !isReference(name)) out[name] = REDACTED;
    else out[name] = redactObject(part);
  }
  return out;
}

/** Names of other objects and files are no secrets: `secretName`, `tokenExpirationSeconds`. */
const isReference = (name: string): boolean => /(Name|Path|Ref|Mode|Seconds|Policy)$/.test(name);

/** The chart writes no literal value that is secret, but `extraEnv` can: all are left out, sources are kept. */
function redactVariable(variable: unknown): unknown {
  if (typeof variable !== 'object' || variable === null || !('value' in variable))
    return redactObject(variable);
  return { ...variable, value: REDACTED };
}
