# Bot nima deydi. en.ftl dagi xabarlar va o‘zgaruvchilarning o‘zi.

## Commands, as Telegram lists them

cmd-balance = Qancha ishlaganim
cmd-stats = Trafik va daromad, grafik bilan
cmd-devices = Qurilmalarim va ular nega ishlamayotgani
cmd-sessions = So‘nggi seanslar
cmd-withdraw = Pul yechish
cmd-referral = Do‘stlarni taklif qilish
cmd-promo = Promokod kiritish
cmd-support = Yordam xizmatiga yozish
cmd-consent = Shartlar: qabul qilish yoki qaytarib olish
cmd-login = Kirish uchun kod
cmd-language = Tilni almashtirish
cmd-topup = Xaridor balansini Stars bilan to‘ldirish
cmd-help = Nimalar qila olaman
cmd-admin = Administratorlar uchun umumiy ko‘rinish
cmd-users = Foydalanuvchilarni topish
cmd-payouts = Kutayotgan to‘lovlar
cmd-system = Tizim holati
cmd-broadcast = Ko‘pchilikka yozish
menu-open = Ochish

## Start, accounts, consent

welcome =
    Traffic Share’ga xush kelibsiz! Ilovani o‘rnating, shartlarni qabul qiling va «Start»ni bosing: ulashgan trafigingiz uchun pul olasiz.
    Nimalar qila olaman: /help
welcome-back = Traffic Share’ga qaytganingiz bilan.
banned = Bu hisob bloklangan. Xato deb hisoblasangiz, qo‘llab-quvvatlashga yozing: /support
not-a-user = Sizni hali tanimayman. Avval /start ni bosing.
slow-down = Birdaniga juda ko‘p. Bir daqiqa kuting.
link-ask =
    Bu Telegram Traffic Share foydalanuvchisi { $owner }ga bog‘lansinmi? U { $owner } sifatida kiradi va topgan puli o‘sha foydalanuvchiniki bo‘ladi.
    Bu havolani o‘zingiz yaratgan bo‘lsangizgina davom eting.
link-yes = Bog‘lash
linked = Tayyor: bu Telegram Traffic Share hisobingizga bog‘landi.
link-expired = Havola ishlatilgan yoki eskirgan. Ilovada yangisini so‘rang.
link-taken = Bu Telegram boshqa Traffic Share foydalanuvchisiga tegishli.
link-too-many = Boshqa Telegram bog‘lab bo‘lmaydi. Avval bittasini uzing.
link-forbidden = Bu foydalanuvchiga Telegram bog‘lab bo‘lmaydi.
buyer-link-ask =
    Bu Telegram { $buyer } xaridoriga bog‘lansinmi? Bu yerdan to‘ldirganingiz o‘sha balansga tushadi.
    Bu havolani o‘zingiz yaratgan bo‘lsangizgina davom eting.
buyer-linked = Tayyor: { $buyer } balansini shu yerda to‘ldirish mumkin: /topup 25
buyer-link-expired = Havola ishlatilgan yoki eskirgan. API orqali yangisini yarating.
buyer-link-taken = Bu Telegram boshqa xaridorga bog‘langan.
buyer-link-too-many = Bu xaridorga boshqa Telegram bog‘lab bo‘lmaydi. Avval bittasini uzing.
buyer-link-forbidden = Bu xaridor hisobi faol emas.
consent-ask =
    Istalgan paytda to‘xtatib, rozilikni qaytarib olish mumkin: /consent
    { $version } shartlarini qabul qilasizmi?
consent-page = { $version } shartlari, { $pages } sahifadan { $page }-sahifa.
consent-next = Keyingi ▶
consent-back = ◀ Orqaga
consent-app = Ilovada o‘qish
consent-accept = Qabul qilaman
consent-accepted = Qabul qilindi: { $version } shartlari. Ilovada «Start»ni bosing.
consent-given = { $version } shartlarini { $date } (UTC) da qabul qilgansiz.
consent-withdraw = Rozilikni qaytarib olish
consent-withdraw-sure = Rozilikni qaytarib olasizmi? Barcha qurilmalaringiz darhol to‘xtaydi. Ishlaganingiz sizniki bo‘lib qoladi.
consent-withdrawn =
    { $sessions ->
        [0] Rozilik qaytarib olindi. Hech narsa ulashilmayotgan edi.
       *[other] Rozilik qaytarib olindi. { $sessions } ta seans to‘xtatildi.
    }
consent-outdated = Bu shartlar endi amalda emas. Yana qarang: /consent
login-code = Traffic Share kodingiz: { $code }
    U { $minutes } daqiqa amal qiladi. Uni hech kimga bermang.
login-code-limit = Bu soat uchun kodlar yetarli. Keyinroq urinib ko‘ring.

## Money and devices

balance =
    Balansingiz: ${ $available }
    Ushlab turilgan: ${ $pending }
    Yechilgan: ${ $withdrawn }
    Jami ishlangan: ${ $lifetime }
balance-short =
    Balansingiz: ${ $available }
    Ushlab turilgan: ${ $pending }
live-short =
    Hozir: { $megabytes } MB, ${ $earned }
    { $state }
stats-day = Bugun
stats-week = 7 kun
stats-month = 30 kun
stats-caption =
    { $period }: { $gigabytes } GB, ${ $earned }
    { $sessions } ta seans. Grafikda kunlik gigabaytlar (UTC).
devices-none = Sizda hali qurilma yo‘q. Ilovani o‘rnating, kiring va «Start»ni bosing.
devices-head = Sizda { $count } ta qurilma bor, ishlayotgani: { $earning }
device-line =
    { $mark } { $name } ({ $os }, { $version })
    { $what } { $todo }
sessions-none = Siz hali trafik ulashmagansiz.
sessions-head = So‘nggi seanslar:
session-line = { $started }: { $megabytes } MB, ${ $earned }, { $state }
session-active = davom etmoqda
session-stopping = hisoblanmoqda
session-completed = tugagan
session-failed = bajarilmagan
referral =
    Kodingiz: { $code }
    U bilan { $invited } kishi keldi, ulardan ishlagani: { $earning }. Sizga ${ $earned } keltirdi.
    Ularning daromadidan ustiga { $percent } % olasiz.
referral-link = Do‘stlaringizga yuboring: { $link }

## Withdrawing

withdraw-amount =
    Qancha yechmoqchisiz? Mavjud: ${ $available }, kamida ${ $minimum }.
    Summani yozing, masalan 5.00, yoki /cancel.
withdraw-all = Hammasi: ${ $available }
withdraw-too-little = ${ $minimum } dan yechish mumkin. Mavjud: ${ $available }. Ushlab turilgan: ${ $pending }.
withdraw-not-an-amount = Bu summa emas. Bunday yozing: 5.00
withdraw-over-available = Sizda ${ $available } mavjud. Kamroq summa yozing.
withdraw-network = { $amount } USDT qaysi tarmoq orqali?
withdraw-network-closed = Bu tarmoq orqali to‘lovlar hozir yopiq. Boshqasini tanlang.
withdraw-address = Pul boradigan { $network } manzilini yuboring.
withdraw-bad-address = Bu { $network } manzili emas: bir harf tushib qolgan yoki noto‘g‘ri. Qayta nusxalang.
withdraw-confirm =
    Tekshiring:
    { $amount } USDT, { $network } tarmog‘i
    manzil: { $address }

    Noto‘g‘ri manzilga yuborilganini qaytarib bo‘lmaydi.
withdraw-yes = Tasdiqlash
withdraw-no = Bekor qilish
withdraw-made =
    Tayyor: ${ $amount } tasdiqni kutmoqda. Har bir qadam haqida aytaman.
    To‘lov { $payment }
withdraw-over-daily = Bugunga ${ $left } qoldi. Kamroq summa bilan qaytadan boshlang: /withdraw
withdraw-over-now = ${ $amount } endi mavjud emas. Qaytadan boshlang: /withdraw
cancelled = Bekor qilindi.
nothing-to-cancel = Bekor qiladigan narsa yo‘q.
button-old = Bu tugma eskirgan.

## Notices

payout-title-requested = To‘lov so‘raldi
payout-title-processing = To‘lov tasdiqlandi
payout-title-sent = To‘lov yuborildi
payout-title-completed = To‘lov bajarildi
payout-title-failed = To‘lov bajarilmadi
payout-title-cancelled = To‘lov bekor qilindi
payout-requested =
    { $network } orqali { $address } ga ${ $amount } to‘lov so‘raldi, u tasdiqni kutmoqda.
    Siz so‘ramaganmisiz? Ilovada bekor qiling va yordam xizmatiga yozing: /support
payout-sent =
    ${ $amount } to‘lovingiz { $network } orqali { $address } ga yo‘lda
    Tranzaksiya: { $transaction }
payout-processing = ${ $amount } to‘lovingiz tasdiqlandi va { $network } orqali yuborilmoqda.
payout-completed =
    To‘landi: ${ $amount }, { $network } orqali { $address } ga
    Tranzaksiya: { $transaction }
payout-failed =
    { $network } orqali ${ $amount } to‘lov bajarilmadi. Pul yana balansingizda.
    { $reason }
payout-cancelled =
    { $network } orqali ${ $amount } to‘lov bekor qilindi. Pul yana balansingizda.
    { $reason }
notice-session-completed =
    Seans tugadi: { $megabytes } MB, ${ $earned }.
    Ushlab turish birozdan keyin tugaydi; /balance ga qarang
notice-update = Ilovaning yangi versiyasi chiqdi: { $version }. { $devices } ta qurilmani yangilang.
live-status =
    🟢 Ulashmoqda: { $device }
    { $megabytes } MB, ${ $earned }, { $speed } Mbit/s
    { $what }
live-ended =
    ⚪ Ulashish tugadi: { $device }
    { $megabytes } MB, ${ $earned }

## What buyers are told of abuse

abuse-account = Traffic Share dagi { $account } xaridor hisobi haqida
abuse-seen-scan = Nima aniqlandi: tarmoqni tekshiradigan yoki manzillarni birma-bir sinaydigan dasturlarnikiga o‘xshash ulanishlar.
abuse-seen-blocked = Nima aniqlandi: ruxsat etilmagan manzil yoki portlarga ko‘p urinishlar.
abuse-seen-target = Nima aniqlandi: parol tanlash yoki serverni ortiqcha yuklashdagi kabi bitta manzilga juda ko‘p ulanish.
abuse-seen-reported = Nima aniqlandi: bu hisobdan chiqqan trafik haqida shikoyat tushdi.
abuse-seen-other = Nima aniqlandi: tarmoqdan suiiste’molga o‘xshash foydalanish.
abuse-warned = Bu ogohlantirish. Hisob ishlayveradi; takrorlansa, cheklanishi yoki to‘xtatilishi mumkin.
abuse-throttled = Yangi ulanishlar hozirdan boshlab, biz tekshirgunimizcha cheklangan. Ochiqlari davom etadi.
abuse-suspended = Hisob to‘xtatildi: biz tekshirgunimizcha ulanishlar yo‘q. Balans saqlanadi.
abuse-lifted = Suiiste’mol gumoni bilan qo‘yilgan cheklov olib tashlandi.
abuse-message = Xabar: { $message }
abuse-do = Nima qilish kerak: sababini to‘xtating, kimga kirish berganingizni tekshiring va bu xato bo‘lsa, Traffic Share dagi aloqa shaxsingizga yozing.
abuse-do-contact = Nima qilish kerak: sababini to‘xtating, kimga kirish berganingizni tekshiring va bu xato bo‘lsa, { $contact } ga yozing.

## Promo codes, support, language, help

promo-ask = Promokodni yuboring yoki /cancel.
promo-redeemed = Balansingizga ${ $bonus } qo‘shildi.
promo-unknown = Bunday kod yo‘q.
promo-expired = Bu kod endi amal qilmaydi.
promo-used-up = Bu kod mumkin bo‘lgan marta ishlatilgan.
promo-redeemed-before = Siz bu kodni allaqachon ishlatgansiz.
too-many-tries = Urinishlar juda ko‘p. Bir soatdan keyin keling.
support-ask = Nima gapligini yozing. Administrator shu yerda javob beradi. Yoki /cancel.
support-ask-on = Endi yozganingiz shu murojaatga qo‘shiladi. Yoki /cancel.
support-to = Endi yozganingiz shu murojaatga boradi: { $subject }
support-sent =
    Rahmat. Xabaringiz yordam xizmatida; javob shu yerga keladi.
    Keyingi buyruqqacha yozganlaringiz ham unga qo‘shiladi.
support-new = Yangi murojaat
support-reply = Javob berish
support-answer = Yordam xizmati javobi: { $subject }
support-answer-closed = Bu murojaat yopildi. Yangisi: /support
support-answer-cut = Javobning davomi ilovaning xabarlarida.
support-too-many = Ochiq murojaatlaringiz allaqachon { $max } ta. Javobni kuting.
support-latest =
    So‘nggi murojaatingiz: { $subject }
    Holati: { $status }
support-open = bizni kutmoqda
support-answered = javob berilgan
support-closed = yopilgan
language-ask = Qaysi tilda?
language-set = Endi o‘zbekcha gaplashaman.
help-head = Nimalar qila olaman:
help-admin = Administratorlar uchun:
not-understood = Tushunmadim. Yordam: /help

## Telegram Stars

not-a-buyer = Bu Telegram xaridorga bog‘lanmagan. Avval xaridor hisobingiz havolasini oching.
topup-usage = Necha dollar? { $min } dan { $max } gacha, masalan: /topup 25
topup-no-stars = Hozircha Telegram Stars bilan to‘lab bo‘lmaydi.
topup-credited = Rahmat! Balansingizga { $amount } $ qo‘shildi.
topup-returned = Bu to‘lovga ochiq hisob-faktura yo‘q. Hech narsa yozilmadi, Stars qaytariladi.
checkout-unknown-order = Bunday hisob-faktura yo‘q. Yangisini so‘rang.
checkout-wrong-amount = Summa hisob-fakturaga mos emas. Yangisini so‘rang.
checkout-not-open = Hisob-faktura to‘langan yoki bekor qilingan.
checkout-expired = Hisob-faktura eskirgan. Yangisini so‘rang.
checkout-being-paid = Bu hisob-faktura hozir to‘lanmoqda.
checkout-not-active = Bu xaridor hisobi faol emas.
pay-support = To‘lovda muammo bormi? Kun va Stars sonini yozib, qo‘llab-quvvatlashga murojaat qiling: administrator qaytara oladi.

## Admins

admin-only = Buni faqat administratorlar qila oladi.
admin-overview =
    Foydalanuvchilar: { $users } (bloklangan { $banned }), qurilmalar: { $devices }
    Xaridorlar: { $buyers }, faol { $active }
    Hozirgi seanslar: { $sessions }
    Ochiq to‘lovlar: { $payouts }, ${ $amount }
    Ochiq farqlar: { $flags }
admin-today = Bugun: { $gigabytes } GB, yechilgan ${ $charged }, ishlangan ${ $earned }, daromad ${ $revenue }
users-usage = Kimni? Telegram id, @nom, taklif kodi yoki id: /users @ann
users-none = Hech kim topilmadi.
users-more = Yana bor. Aniqroq yozing.
user-line =
    { $name } · { $status } · { $language }
    { $id }
    Telegram { $telegram }, qurilmalar { $devices }, mavjud ${ $available }, ushlab turilgan ${ $pending }
system-head = Versiya { $version }, { $hours } soatdan beri ishlaydi, yuklama { $load }, xotira { $memory } MB
system-gateway = Shlyuz { $id }: tunnellar { $tunnels }, oqimlar { $streams }{ $draining }
system-draining = , yopilmoqda
system-no-gateway = Birorta ham shlyuz yo‘q.
system-no-redis = Jonli holatni hozir o‘qib bo‘lmaydi.
system-well = Hammasi joyida.
system-alert = ⚠️ { $detail }
payouts-none = Kutayotgan to‘lov yo‘q.
payouts-more = Va yana { $count } ta. Bular hal bo‘lgach keladi.
payout-request =
    { $network } orqali ${ $amount } to‘lov
    manzil: { $address }
    Provayder { $provider }
    To‘lov { $payment }
payout-approve = Tasdiqlash
payout-refuse = Rad etish
payout-back = Orqaga
payout-reason-address = Manzil mos emas
payout-reason-fraud = Firibgarlikka o‘xshaydi
payout-reason-limits = Hozir emas
payout-approved-by = ✅ Tasdiqladi: { $admin }
payout-approved-partly = ☑️ Tasdiqladi: { $admin }, { $approvals } / { $needed }
payout-approved-short = Tasdiqlar: { $approvals } / { $needed }
payout-refused-by = ❌ Rad etdi: { $admin }, { $reason }
payout-own = Hech kim o‘ziga to‘lovni tasdiqlamaydi.
payout-moved = Bu to‘lov allaqachon: { $status }.
payout-unknown = Bunday to‘lov yo‘q.
payout-unavailable = Cryptomus sozlanmagan: hech narsa to‘lab bo‘lmaydi. Boshqaruv serverida TS_CRYPTOMUS_MERCHANT_ID, …_PAYMENT_KEY va …_PAYOUT_KEY ni belgilang.
payout-status-pending = kutmoqda
payout-status-processing = tasdiqlangan
payout-status-completed = to‘langan
payout-status-failed = bajarilmagan
payout-status-cancelled = bekor qilingan
broadcast-target = Kim oladi?
broadcast-all = Hamma
broadcast-active = 30 kunda faol bo‘lganlar
broadcast-admins = Administratorlar
broadcast-language = Til: { $language }
broadcast-text = Xabarni yuboring yoki /cancel.
broadcast-confirm =
    Kimga: { $target }

    { $message }
broadcast-send = Yuborish
broadcast-started = { $recipients } kishiga yuborilmoqda.
report-day =
    { $day } hisoboti (UTC)

    Trafik: { $total } GB (yuqoriga { $up } GB, pastga { $down } GB)
    Yechilgan ${ $charged }, ishlangan ${ $earned }, takliflar ${ $referrals }, daromad ${ $revenue }
    To‘ldirishlar: ${ $topups }
    To‘lovlar: { $payouts }, ${ $paid }
    Faol: provayderlar { $providers }, xaridorlar { $buyers }; tugagan seanslar { $sessions }
    Yangi: foydalanuvchilar { $newUsers }, xaridorlar { $newBuyers }
report-by-buyer = Xaridorlar bo‘yicha:
report-buyer = { $account } ({ $name }): { $gigabytes } GB, ${ $charged }
report-more = va yana { $count } ta
report-chart = Kunlik gigabaytlar, kunlar: { $days }
receipt-paid = To‘landi: { $network } orqali ${ $amount }, { $currency }
receipt-failed = To‘lov bajarilmadi: { $network } orqali ${ $amount }, { $currency }
receipt-target = Manzil { $target }
receipt-transaction = Tranzaksiya { $transaction }
receipt-reason = Sabab: { $reason }. Pul yana provayderda.
receipt-no-reason = ko‘rsatilmagan
receipt-provider = Provayder { $provider }
receipt-payment = To‘lov { $payment }
alert-raised = 🔴 { $detail }
alert-cleared = 🟢 O‘tdi: { $detail }

## The page for abuse reports, outside the bot

page-title = Suiiste’mol haqida xabar berish
page-languages = Til
page-intro = Bizning manzillarimizdan biridan kelgan trafik sizga zarar yetkazdimi? Shu yerda xabar bering. Uni kim yuborganini ko‘ramiz va javob beramiz; akkaunt kerak emas.
page-not-sent = Hali yuborilmadi: quyida nimadir yetishmaydi yoki noto‘g‘ri.
page-missing = Bu maydon majburiy.
page-future = Bu vaqt hali kelmagan.
page-ip = Trafik kelgan manzil
page-ip-hint = Jurnalingizdagi IPv4 yoki IPv6 manzil.
page-ip-invalid = Bu IPv4 yoki IPv6 manzil emas.
page-when = Qachon, UTC bo‘yicha
page-when-hint = Iloji boricha aniq: manzillarning foydalanuvchilari almashadi.
page-when-invalid = Bu vaqti bilan sana emas.
page-destination = Sizning serveringiz (ixtiyoriy)
page-destination-hint = Nomi yoki manzili.
page-destination-invalid = Ko‘pi bilan 253 ta belgi.
page-port = Uning porti (bilsangiz)
page-port-hint = Masalan, 443.
page-port-invalid = 1 dan 65535 gacha son.
page-contact = Siz bilan qanday bog‘lanamiz (ixtiyoriy)
page-contact-hint = Faqat shu xabar uchun ishlatamiz.
page-contact-invalid = Ko‘pi bilan 200 ta belgi.
page-what = Nima bo‘ldi
page-what-hint = Jurnalingizdan bir necha qator eng ko‘p yordam beradi.
page-what-invalid = 10 dan 4000 gacha belgili matn.
page-trap = Bo‘sh qoldiring
page-send = Yuborish
page-status = Xabar nima bo‘ldi?
page-reference = Raqam
page-secret = Maxfiy kod
page-look = Ko‘rish
page-back = Orqaga
page-thanks = Rahmat
page-received = Xabaringiz qabul qilindi. Ikkalasini yozib oling: javobimizni shular bilan ko‘rasiz, ular faqat hozir ko‘rsatiladi.
page-none-title = Bunday xabar yo‘q
page-none = Bunday raqam va maxfiy kodli xabar yo‘q.
page-report = { $reference } xabari
page-received-at = Qabul qilindi: { $when }.
page-open = U javobimizni kutmoqda.
page-answered = Biz javob berdik.
page-closed = U yopilgan.
page-acted = Trafikni yuborganga nisbatan chora ko‘rdik.
page-not-found = Mos keladigan trafikimiz topilmadi.
page-no-abuse = Buni suiiste’mol deb hisoblamaymiz.
page-duplicate = Bu haqda oldin xabar berilgan.
page-spam = Bu suiiste’mol haqida xabar emas edi.
page-answer = Bizning javobimiz
page-too-large = Bu juda uzun. Qisqaroq qilib qayta urinib ko‘ring.
page-too-many = Qisqa vaqtda juda ko‘p bo‘ldi. Keyinroq urinib ko‘ring.
