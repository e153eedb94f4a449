// Signs what nginx forwards to Postern: the value of X-Proxy-Verified (docs/identity.md, scheme `postern`).
// Needs njs 0.7.8 or newer (js_preload_object). See nginx.conf beside this file for the directives around it.
//
// Reads   $postern_user, $postern_permissions, $postern_audience   set by the configuration, never by the client
//         postern_key                                              preloaded: {"kid": "...", "secret": "..."}
// Gives   "v1;kid=…;ts=…;nonce=…;sig=…", or "" if the request cannot be signed. Then the header is not sent, and
//         Postern refuses the request: an error here never lets an unsigned identity through.

import crypto from 'crypto';

const CONTROL = /[\x00-\x1f\x7f]/;

// The digest of an absent body is that of an empty one (njs shows an empty body as a buffer that cannot be read).
// A body that nginx has put into a file throws.
function bodyDigest(r) {
    const hash = crypto.createHash('sha256');
    const body = r.requestBuffer;
    if (body !== undefined && body.length > 0) {
        hash.update(body);
    }
    return hash.digest('hex');
}

function canonical(r, kid, timestamp, nonce) {
    const v = r.variables;
    const lines = [
        'postern-v1',
        kid,
        'hmac-sha256',
        String(timestamp),
        nonce,
        r.method,
        v.request_uri,
        v.postern_audience,
        v.postern_user,
        v.postern_permissions || '',
        bodyDigest(r),
    ];
    lines.forEach((line) => {
        if (line === undefined || CONTROL.test(line)) {
            throw new Error('a field is missing or holds a control character');
        }
    });
    return lines.join('\n');
}

function verified(r) {
    try {
        if (!r.variables.postern_user) {
            throw new Error('$postern_user is empty');
        }
        const kid = postern_key.kid;
        const timestamp = Math.floor(Date.now() / 1000);
        const nonce = r.variables.request_id;
        const text = canonical(r, kid, timestamp, nonce);
        const signature = crypto.createHmac('sha256', postern_key.secret).update(text).digest('base64url');
        return `v1;kid=${kid};ts=${timestamp};nonce=${nonce};sig=${signature}`;
    } catch (error) {
        r.error(`postern_sign: not signed: ${error.message}`);
        return '';
    }
}

export default { verified };
