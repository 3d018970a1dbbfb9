import { newAuthority } from './authority.ts';

/**
 * What the Secret of an authority holds, PEM: `ca.crt` the CA that signs, and after it others that are trusted as well;
 * `ca.key` the key of the first; `next.key` that of the second, while it is the one to come.
 */
export type AuthorityData = Readonly<Record<string, string>>;

/**
 * Where a cluster stands between an old CA and a new one. settled: it has one. announced: a second one is trusted and signs
 * nothing yet, so that everybody can learn of it in time. changed: the second one signs, the first is trusted still.
 */
export type RotationStage = 'settled' | 'announced' | 'changed';

export function stageOf(data: AuthorityData): RotationStage {
  if (certificatesIn(data['ca.crt'] ?? '').length < 2) return 'settled';
  return data['next.key'] ? 'announced' : 'changed';
}

/** The certificates of a PEM text, each by itself. */
export function certificatesIn(pem: string): string[] {
  return (
    pem.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g)?.map(each => `${each}\n`) ?? []
  );
}

/**
 * The next stage of the change from one CA to another: settled → announced → changed → settled. Keys that are to go are
 * undefined.
 */
export async function rotateOnce(
  data: AuthorityData,
  cluster: string,
  now: Date,
): Promise<Readonly<Record<string, string | undefined>>> {
  const [first = '', second = ''] = certificatesIn(data['ca.crt'] ?? '');
  switch (stageOf(data)) {
    case 'settled': {
      const next = await newAuthority(cluster, now);
      return { 'ca.crt': `${first}${next.cert.trimEnd()}\n`, 'next.key': next.key };
    }
    case 'announced':
      return { 'ca.crt': second + first, 'ca.key': data['next.key'], 'next.key': undefined };
    case 'changed':
      return { 'ca.crt': first };
  }
}
