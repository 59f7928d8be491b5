import { integer, text } from '../../gateway/runtime/environment.js';

/** Part of the control plane's settings: push notices through Firebase Cloud Messaging. */
export const pushSettings = {
  fcmServiceAccount: text(
    'TS_FCM_SERVICE_ACCOUNT',
    'service account of the Firebase project: path of its JSON file, or the JSON; unset: nothing is pushed',
    null,
  ),
  fcmUrl: text('TS_FCM_URL', 'root of FCM', 'https://fcm.googleapis.com'),
  fcmTokenUrl: text(
    'TS_FCM_TOKEN_URL',
    'where access tokens for FCM come from; unset: where the service account says',
    null,
  ),
  fcmTimeoutMs: integer('TS_FCM_TIMEOUT_MS', 'time one call to FCM may take; then it is made again later', {
    default: 10_000,
    min: 100,
    max: 120_000,
  }),
};
