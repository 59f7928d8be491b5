# Что говорит бот. Те же сообщения с теми же переменными, что в en.ftl.

## Commands, as Telegram lists them

cmd-balance = Сколько я заработал
cmd-stats = Трафик и заработок с графиком
cmd-devices = Мои устройства и почему они не зарабатывают
cmd-sessions = Последние сессии
cmd-withdraw = Вывести деньги
cmd-referral = Пригласить друзей
cmd-promo = Ввести промокод
cmd-support = Написать в поддержку
cmd-consent = Условия: принять или отозвать
cmd-login = Код для входа
cmd-language = Сменить язык
cmd-topup = Пополнить баланс покупателя звёздами
cmd-help = Что я умею
cmd-admin = Обзор для администраторов
cmd-users = Найти пользователей
cmd-payouts = Выплаты, которые ждут
cmd-system = Состояние системы
cmd-broadcast = Написать многим
menu-open = Открыть

## Start, accounts, consent

welcome =
    Добро пожаловать в Traffic Share! Установите приложение, примите условия и нажмите «Старт»: вы зарабатываете на трафике, которым делитесь.
    Всё, что я умею: /help
welcome-back = С возвращением в Traffic Share.
banned = Этот аккаунт заблокирован. Если это ошибка, напишите в поддержку: /support
not-a-user = Я вас ещё не знаю. Сначала нажмите /start.
slow-down = Слишком много сразу. Подождите минуту.
link-ask =
    Привязать этот Telegram к пользователю Traffic Share { $owner }? Он будет входить как { $owner }, и заработанное будет принадлежать этому пользователю.
    Продолжайте, только если вы сами создали эту ссылку.
link-yes = Привязать
linked = Готово: этот Telegram привязан к вашему аккаунту Traffic Share.
link-expired = Ссылка уже использована или устарела. Запросите новую в приложении.
link-taken = Этот Telegram принадлежит другому пользователю Traffic Share.
link-too-many = Больше аккаунтов Telegram привязать нельзя. Сначала отвяжите один.
link-forbidden = К этому пользователю нельзя привязать Telegram.
buyer-link-ask =
    Привязать этот Telegram к покупателю { $buyer }? Пополнения отсюда пойдут на его баланс.
    Продолжайте, только если вы сами создали эту ссылку.
buyer-linked = Готово: здесь можно пополнять баланс { $buyer }: /topup 25
buyer-link-expired = Ссылка уже использована или устарела. Создайте новую через API.
buyer-link-taken = Этот Telegram привязан к другому покупателю.
buyer-link-too-many = У этого покупателя больше нельзя привязать Telegram. Сначала отвяжите один.
buyer-link-forbidden = Этот аккаунт покупателя не активен.
consent-ask =
    Остановить и отозвать согласие можно в любой момент: /consent
    Принимаете условия версии { $version }?
consent-page = Страница { $page } из { $pages }, условия версии { $version }.
consent-next = Дальше ▶
consent-back = ◀ Назад
consent-app = Читать в приложении
consent-accept = Принимаю
consent-accepted = Принято: условия { $version }. Нажмите «Старт» в приложении.
consent-given = Вы приняли условия { $version } { $date } (UTC).
consent-withdraw = Отозвать согласие
consent-withdraw-sure = Отозвать согласие? Все ваши устройства сразу перестанут делиться. Заработанное остаётся вашим.
consent-withdrawn =
    { $sessions ->
        [0] Согласие отозвано. Ничего не раздавалось.
        [one] Согласие отозвано. Остановлена { $sessions } сессия.
        [few] Согласие отозвано. Остановлены { $sessions } сессии.
       *[many] Согласие отозвано. Остановлено { $sessions } сессий.
    }
consent-outdated = Эти условия уже не действуют. Посмотрите снова: /consent
login-code = Ваш код Traffic Share: { $code }
    { $minutes ->
        [one] Он действует { $minutes } минуту.
        [few] Он действует { $minutes } минуты.
       *[many] Он действует { $minutes } минут.
    } Никому его не сообщайте.
login-code-limit = На этот час кодов достаточно. Попробуйте позже.

## Money and devices

balance =
    Ваш баланс: ${ $available }
    На удержании: ${ $pending }
    Выведено: ${ $withdrawn }
    Заработано всего: ${ $lifetime }
balance-short =
    Ваш баланс: ${ $available }
    На удержании: ${ $pending }
live-short =
    Сейчас: { $megabytes } МБ, ${ $earned }
    { $state }
stats-day = Сегодня
stats-week = 7 дней
stats-month = 30 дней
stats-caption =
    { $period }: { $gigabytes } ГБ, ${ $earned }
    { $sessions ->
        [one] { $sessions } сессия.
        [few] { $sessions } сессии.
       *[many] { $sessions } сессий.
    } На графике — гигабайты по дням (UTC).
devices-none = У вас ещё нет устройств. Установите приложение, войдите и нажмите «Старт».
devices-head =
    { $count ->
        [one] У вас { $count } устройство, зарабатывают: { $earning }
        [few] У вас { $count } устройства, зарабатывают: { $earning }
       *[many] У вас { $count } устройств, зарабатывают: { $earning }
    }
device-line =
    { $mark } { $name } ({ $os }, { $version })
    { $what } { $todo }
sessions-none = Вы ещё не делились трафиком.
sessions-head = Последние сессии:
session-line = { $started }: { $megabytes } МБ, ${ $earned }, { $state }
session-active = идёт
session-stopping = подсчитывается
session-completed = завершена
session-failed = не удалась
referral =
    Ваш код: { $code }
    { $invited ->
        [one] С ним пришёл { $invited } человек, из них зарабатывали: { $earning }.
        [few] С ним пришли { $invited } человека, из них зарабатывали: { $earning }.
       *[many] С ним пришло { $invited } человек, из них зарабатывали: { $earning }.
    } Вам это принесло ${ $earned }.
    Вы получаете { $percent } % от их заработка сверх него.
referral-link = Отправьте друзьям: { $link }

## Withdrawing

withdraw-amount =
    Сколько вывести? Доступно: ${ $available }, не меньше ${ $minimum }.
    Напишите сумму, например 5.00, или /cancel.
withdraw-all = Всё: ${ $available }
withdraw-too-little = Вывести можно от ${ $minimum }. Доступно: ${ $available }. На удержании: ${ $pending }.
withdraw-not-an-amount = Это не сумма. Напишите так: 5.00
withdraw-over-available = Доступно ${ $available }. Напишите сумму поменьше.
withdraw-network = { $amount } USDT — по какой сети?
withdraw-network-closed = Выплаты по этой сети сейчас закрыты. Выберите другую.
withdraw-address = Пришлите адрес в сети { $network }, на который отправить деньги.
withdraw-bad-address = Это не адрес в сети { $network }: буква пропущена или неверна. Скопируйте ещё раз.
withdraw-confirm =
    Проверьте:
    { $amount } USDT по сети { $network }
    на { $address }

    Отправленное на неверный адрес вернуть нельзя.
withdraw-yes = Подтвердить
withdraw-no = Отмена
withdraw-made =
    Готово: ${ $amount } ждут одобрения. Я сообщу о каждом шаге.
    Выплата { $payment }
withdraw-over-daily = На сегодня осталось ${ $left }. Начните снова с меньшей суммой: /withdraw
withdraw-over-now = ${ $amount } больше не доступны. Начните снова: /withdraw
cancelled = Отменено.
nothing-to-cancel = Отменять нечего.
button-old = Эта кнопка устарела.

## Notices

payout-title-requested = Запрошена выплата
payout-title-processing = Выплата одобрена
payout-title-sent = Выплата отправлена
payout-title-completed = Выплата завершена
payout-title-failed = Выплата не удалась
payout-title-cancelled = Выплата отменена
payout-requested =
    Запрошена выплата ${ $amount } по сети { $network } на { $address }; она ждёт одобрения.
    Это были не вы? Отмените её в приложении и напишите в поддержку: /support
payout-sent =
    Ваша выплата ${ $amount } уже в пути по сети { $network } на { $address }
    Транзакция: { $transaction }
payout-processing = Ваша выплата ${ $amount } одобрена и отправляется по сети { $network }.
payout-completed =
    Выплачено: ${ $amount } по сети { $network } на { $address }
    Транзакция: { $transaction }
payout-failed =
    Выплата ${ $amount } по сети { $network } не удалась. Деньги снова на вашем балансе.
    { $reason }
payout-cancelled =
    Выплата ${ $amount } по сети { $network } отменена. Деньги снова на вашем балансе.
    { $reason }
notice-session-completed =
    Сессия завершена: { $megabytes } МБ, ${ $earned }.
    Удержание снимется через некоторое время; смотрите /balance
notice-update =
    { $devices ->
        [one] Вышла новая версия приложения: { $version }. Обновите { $devices } устройство.
        [few] Вышла новая версия приложения: { $version }. Обновите { $devices } устройства.
       *[many] Вышла новая версия приложения: { $version }. Обновите { $devices } устройств.
    }
live-status =
    🟢 Раздаёт: { $device }
    { $megabytes } МБ, ${ $earned }, { $speed } Мбит/с
    { $what }
live-ended =
    ⚪ Раздача закончена: { $device }
    { $megabytes } МБ, ${ $earned }

## What buyers are told of abuse

abuse-account = Об аккаунте покупателя { $account } в Traffic Share
abuse-seen-scan = Что замечено: соединения, какие делают программы, которые сканируют сеть или перебирают узлы один за другим.
abuse-seen-blocked = Что замечено: много попыток обратиться к запрещённым адресам или портам.
abuse-seen-target = Что замечено: очень много соединений с одним узлом, как при подборе паролей или перегрузке узла.
abuse-seen-reported = Что замечено: поступила жалоба на трафик этого аккаунта.
abuse-seen-other = Что замечено: использование сети, похожее на злоупотребление.
abuse-warned = Это предупреждение. Аккаунт работает; если это повторится, он может быть ограничен или заблокирован.
abuse-throttled = Новые соединения с этого момента ограничены, пока мы не разберёмся. Открытые продолжают работать.
abuse-suspended = Аккаунт заблокирован: соединений нет, пока мы не разберёмся. Баланс сохраняется.
abuse-lifted = Ограничение, введённое по подозрению в злоупотреблении, снято.
abuse-message = Сообщение: { $message }
abuse-do = Что делать: прекратите то, что это вызывает, проверьте, кому вы дали доступ, и напишите вашему контакту в Traffic Share, если это ошибка.
abuse-do-contact = Что делать: прекратите то, что это вызывает, проверьте, кому вы дали доступ, и напишите на { $contact }, если это ошибка.

## Promo codes, support, language, help

promo-ask = Пришлите промокод или /cancel.
promo-redeemed = ${ $bonus } добавлены на ваш баланс.
promo-unknown = Такого кода нет.
promo-expired = Этот код больше не действует.
promo-used-up = Этот код уже использован столько раз, сколько можно.
promo-redeemed-before = Вы уже использовали этот код.
too-many-tries = Слишком много попыток. Приходите через час.
support-ask = Напишите, в чём дело. Администратор ответит здесь. Или /cancel.
support-ask-on = Что вы теперь напишете, добавится к нему. Или /cancel.
support-to = Что вы теперь напишете, попадёт в обращение: { $subject }
support-sent =
    Спасибо. Сообщение у поддержки; ответ придёт сюда.
    Всё, что вы напишете до следующей команды, добавится к обращению.
support-new = Новое обращение
support-reply = Ответить
support-answer = Ответ поддержки: { $subject }
support-answer-closed = Обращение закрыто. Новое: /support
support-answer-cut = Продолжение ответа во входящих приложения.
support-too-many = Открытых обращений уже { $max }. Дождитесь ответа.
support-latest =
    Последнее обращение: { $subject }
    Состояние: { $status }
support-open = ждёт нас
support-answered = отвечено
support-closed = закрыто
language-ask = На каком языке?
language-set = Теперь я говорю по-русски.
help-head = Что я умею:
help-admin = Для администраторов:
not-understood = Не понимаю. Помощь: /help

## Telegram Stars

not-a-buyer = Этот Telegram не привязан к покупателю. Сначала откройте ссылку своего аккаунта покупателя.
topup-usage = Сколько долларов? От { $min } до { $max }, например: /topup 25
topup-no-stars = Сейчас оплатить звёздами Telegram нельзя.
topup-credited = Спасибо! На балансе прибавилось { $amount } $.
topup-returned = Для этого платежа нет открытого счёта. Ничего не зачислено, звёзды вернутся.
checkout-unknown-order = Такого счёта нет. Запросите новый.
checkout-wrong-amount = Сумма не совпадает со счётом. Запросите новый.
checkout-not-open = Счёт уже оплачен или отменён.
checkout-expired = Счёт устарел. Запросите новый.
checkout-being-paid = Этот счёт сейчас уже оплачивают.
checkout-not-active = Этот аккаунт покупателя не активен.
pay-support = Проблема с платежом? Напишите в поддержку, указав день и число звёзд: администратор может их вернуть.

## Admins

admin-only = Это могут только администраторы.
admin-overview =
    Пользователи: { $users } (заблокировано { $banned }), устройства: { $devices }
    Покупатели: { $buyers }, активных { $active }
    Сессий сейчас: { $sessions }
    Открытых выплат: { $payouts }, ${ $amount }
    Открытых расхождений: { $flags }
admin-today = Сегодня: { $gigabytes } ГБ, списано ${ $charged }, заработано ${ $earned }, доход ${ $revenue }
users-usage = Кого? Telegram id, @имя, код приглашения или id: /users @ann
users-none = Никого не нашлось.
users-more = Есть ещё. Уточните запрос.
user-line =
    { $name } · { $status } · { $language }
    { $id }
    Telegram { $telegram }, устройств { $devices }, доступно ${ $available }, на удержании ${ $pending }
system-head = Версия { $version }, работает { $hours } ч, нагрузка { $load }, память { $memory } МБ
system-gateway = Шлюз { $id }: туннелей { $tunnels }, потоков { $streams }{ $draining }
system-draining = , завершается
system-no-gateway = Ни одного шлюза нет.
system-no-redis = Текущее состояние сейчас не прочитать.
system-well = Всё в порядке.
system-alert = ⚠️ { $detail }
payouts-none = Ни одна выплата не ждёт.
payouts-more = И ещё { $count }. Они придут, когда эти будут решены.
payout-request =
    Выплата ${ $amount } по сети { $network }
    на { $address }
    Провайдер { $provider }
    Платёж { $payment }
payout-approve = Одобрить
payout-refuse = Отказать
payout-back = Назад
payout-reason-address = Адрес не подходит
payout-reason-fraud = Похоже на мошенничество
payout-reason-limits = Не сейчас
payout-approved-by = ✅ Одобрил(а) { $admin }
payout-approved-partly = ☑️ Одобрил(а) { $admin }: { $approvals } из { $needed }
payout-approved-short = Одобрений: { $approvals } из { $needed }
payout-refused-by = ❌ Отказ, { $admin }: { $reason }
payout-own = Никто не одобряет выплату самому себе.
payout-moved = Эта выплата уже в состоянии: { $status }.
payout-unknown = Такой выплаты нет.
payout-unavailable = Cryptomus не настроен: выплатить ничего нельзя. Задайте TS_CRYPTOMUS_MERCHANT_ID, …_PAYMENT_KEY и …_PAYOUT_KEY сервера управления.
payout-status-pending = ждёт
payout-status-processing = одобрена
payout-status-completed = выплачена
payout-status-failed = не удалась
payout-status-cancelled = отменена
broadcast-target = Кто это получит?
broadcast-all = Все
broadcast-active = Активные за 30 дней
broadcast-admins = Администраторы
broadcast-language = Язык: { $language }
broadcast-text = Пришлите сообщение или /cancel.
broadcast-confirm =
    Кому: { $target }

    { $message }
broadcast-send = Отправить
broadcast-started =
    { $recipients ->
        [one] Отправляется { $recipients } человеку.
        [few] Отправляется { $recipients } людям.
       *[many] Отправляется { $recipients } людям.
    }
report-day =
    Отчёт за { $day } (UTC)

    Трафик: { $total } ГБ (вверх { $up } ГБ, вниз { $down } ГБ)
    Списано ${ $charged }, заработано ${ $earned }, рефералы ${ $referrals }, доход ${ $revenue }
    Пополнения: ${ $topups }
    Выплаты: { $payouts }, ${ $paid }
    Активны: провайдеров { $providers }, покупателей { $buyers }; сессий завершено { $sessions }
    Новые: пользователей { $newUsers }, покупателей { $newBuyers }
report-by-buyer = По покупателям:
report-buyer = { $account } ({ $name }): { $gigabytes } ГБ, ${ $charged }
report-more = и ещё { $count }
report-chart = Гигабайты по дням, дней: { $days }
receipt-paid = Выплачено: ${ $amount } в { $currency } по сети { $network }
receipt-failed = Выплата не удалась: ${ $amount } в { $currency } по сети { $network }
receipt-target = На { $target }
receipt-transaction = Транзакция { $transaction }
receipt-reason = Причина: { $reason }. Деньги снова доступны провайдеру.
receipt-no-reason = не указана
receipt-provider = Провайдер { $provider }
receipt-payment = Платёж { $payment }
alert-raised = 🔴 { $detail }
alert-cleared = 🟢 Прошло: { $detail }

## The page for abuse reports, outside the bot

page-title = Сообщить о злоупотреблении
page-languages = Язык
page-intro = Трафик с одного из наших адресов причинил вам вред? Сообщите здесь. Мы видим, кто его отправил, и ответим; аккаунт не нужен.
page-not-sent = Ещё не отправлено: ниже чего-то не хватает или что-то указано неверно.
page-missing = Обязательное поле.
page-future = Это время ещё не наступило.
page-ip = Адрес, с которого пришёл трафик
page-ip-hint = Адрес IPv4 или IPv6 из вашего журнала.
page-ip-invalid = Это не адрес IPv4 или IPv6.
page-when = Когда, по UTC
page-when-hint = Как можно точнее: у адресов меняются пользователи.
page-when-invalid = Это не дата со временем.
page-destination = Ваш сервер (по желанию)
page-destination-hint = Имя или адрес.
page-destination-invalid = Не больше 253 символов.
page-port = Его порт (если знаете)
page-port-hint = Например, 443.
page-port-invalid = Число от 1 до 65535.
page-contact = Как с вами связаться (по желанию)
page-contact-hint = Используем только для этого сообщения.
page-contact-invalid = Не больше 200 символов.
page-what = Что произошло
page-what-hint = Лучше всего помогают несколько строк вашего журнала.
page-what-invalid = От 10 до 4000 символов текста.
page-trap = Оставьте пустым
page-send = Отправить
page-status = Что стало с сообщением?
page-reference = Номер
page-secret = Секрет
page-look = Посмотреть
page-back = Назад
page-thanks = Спасибо
page-received = Сообщение получено. Запишите номер и секрет: по ним вы увидите наш ответ, и показываем мы их только сейчас.
page-none-title = Нет такого сообщения
page-none = Сообщения с таким номером и секретом нет.
page-report = Сообщение { $reference }
page-received-at = Получено { $when }.
page-open = Оно ждёт нашего ответа.
page-answered = Мы ответили.
page-closed = Оно закрыто.
page-acted = Мы приняли меры к тому, кто отправил трафик.
page-not-found = Подходящего трафика у нас не нашлось.
page-no-abuse = Мы не считаем это злоупотреблением.
page-duplicate = Об этом уже сообщали.
page-spam = Это не было сообщением о злоупотреблении.
page-answer = Наш ответ
page-too-large = Слишком длинно. Попробуйте ещё раз, короче.
page-too-many = Слишком часто за короткое время. Попробуйте позже.
